-- Errors and diagnostics, for members to see why something did not work.
create table public.whatsapp_baileys_events (
  id bigint generated always as identity primary key,
  workspace_id uuid references public.workspaces (id) on delete cascade,
  integration_account_id uuid references public.integration_accounts (id) on delete cascade,
  worker_id uuid,
  level text not null
    constraint whatsapp_baileys_events_level_is_known check (level in ('debug', 'info', 'warning', 'error')),
  code text not null
    constraint whatsapp_baileys_events_code_has_1_to_100_characters check (char_length(code) between 1 and 100),
  message text not null,
  context jsonb not null default '{}',
  created_at timestamptz not null default now()
);
create index whatsapp_baileys_events_by_account
  on public.whatsapp_baileys_events (integration_account_id, created_at desc);
create index whatsapp_baileys_events_by_workspace
  on public.whatsapp_baileys_events (workspace_id, created_at desc);
create index whatsapp_baileys_events_by_age on public.whatsapp_baileys_events (created_at);
comment on table public.whatsapp_baileys_events is
  'Errors and diagnostics of the bridge, kept 30 days (limits.events_kept_days). Never a message text, a number or a key.';
comment on column public.whatsapp_baileys_events.id is 'Identifier, growing.';
comment on column public.whatsapp_baileys_events.workspace_id is 'The workspace; null if it concerns a host.';
comment on column public.whatsapp_baileys_events.integration_account_id is 'The account; null if it concerns a host.';
comment on column public.whatsapp_baileys_events.worker_id is 'The worker that reported it.';
comment on column public.whatsapp_baileys_events.level is
  'error: a person must act. warning: the bridge tried again. info: something changed. debug: for developers.';
comment on column public.whatsapp_baileys_events.code is 'Stable code.';
comment on column public.whatsapp_baileys_events.message is 'One sentence for a person.';
comment on column public.whatsapp_baileys_events.context is 'Details as JSON.';
comment on column public.whatsapp_baileys_events.created_at is 'When it was recorded.';

revoke all on public.whatsapp_baileys_events from public, anon, authenticated, service_role;
grant select on public.whatsapp_baileys_events to authenticated;
grant select, insert, update, delete on public.whatsapp_baileys_events to service_role;
alter table public.whatsapp_baileys_events enable row level security;
create policy "members read events of their workspaces" on public.whatsapp_baileys_events
  for select to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('viewer')));

create function public.whatsapp_prune_events() returns bigint
language plpgsql
set search_path = ''
as $$
declare
  oldest timestamptz := now() - make_interval(days => (select events_kept_days from whatsapp_private.limits));
  deleted bigint;
begin
  -- in small portions: it runs with every heartbeat, and nobody should notice
  with old as (
    select id from public.whatsapp_baileys_events where created_at < oldest
    order by created_at limit 1000 for update skip locked
  )
  delete from public.whatsapp_baileys_events as event using old where event.id = old.id;
  get diagnostics deleted = row_count;
  delete from whatsapp_private.early_receipts
  where ctid = any (array(
    select ctid from whatsapp_private.early_receipts where created_at < oldest
    order by created_at limit 1000 for update skip locked
  ));
  delete from whatsapp_private.early_changes
  where id = any (array(
    select id from whatsapp_private.early_changes where created_at < oldest
    order by created_at limit 1000 for update skip locked
  ));
  return deleted;
end
$$;
comment on function public.whatsapp_prune_events() is
  'Deletes up to 1,000 diagnostics older than limits.events_kept_days, and as many receipts and changes that never found their message. Returns how many diagnostics went.';
revoke all on function public.whatsapp_prune_events() from public, anon, authenticated, service_role;
grant execute on function public.whatsapp_prune_events() to service_role;

-- The bridge prunes with its heartbeat. Where pg_cron is at hand, it also happens without a bridge.
do $$
begin
  if exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
    execute $job$select cron.schedule('whatsapp_prune_events', '17 * * * *', 'select public.whatsapp_prune_events()')$job$;
  end if;
end
$$;
