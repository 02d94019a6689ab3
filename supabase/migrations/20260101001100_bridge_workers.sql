-- The hosts that run accounts. For the bridge and its operator; tenants have no business here.
create table public.bridge_workers (
  id uuid primary key,
  hostname text,
  version text,
  pid integer,
  capacity integer,
  load jsonb not null default '{}',
  started_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  leases_held_at timestamptz
);
comment on table public.bridge_workers is 'Running bridges: liveness, version, load. Service role only.';
comment on column public.bridge_workers.id is 'Identifier that a host keeps over restarts.';
comment on column public.bridge_workers.hostname is 'Name of the host.';
comment on column public.bridge_workers.version is 'Version of the bridge.';
comment on column public.bridge_workers.pid is 'Process number on the host.';
comment on column public.bridge_workers.capacity is 'How many accounts it takes.';
comment on column public.bridge_workers.load is 'What it is busy with, as it says itself.';
comment on column public.bridge_workers.started_at is 'When it registered.';
comment on column public.bridge_workers.last_seen_at is 'Its last heartbeat.';
comment on column public.bridge_workers.leases_held_at is
  'When it last asked for leases, with room for some: hosts that do so now share the accounts. Null while it stops.';

revoke all on public.bridge_workers from public, anon, authenticated, service_role;
grant select, insert, update, delete on public.bridge_workers to service_role;
alter table public.bridge_workers enable row level security;
