-- Who runs an account, and its sealed WhatsApp keys. For the bridge alone, and never published:
-- keys change with every message, and that must not reach subscribers.
create table public.whatsapp_baileys_sessions (
  id uuid primary key default gen_random_uuid(),
  integration_account_id uuid not null unique references public.integration_accounts (id) on delete cascade,
  auth_state jsonb
    constraint whatsapp_baileys_sessions_auth_state_is_an_object check (jsonb_typeof(auth_state) = 'object'),
  generation bigint not null default 0,
  saved_at timestamptz,
  ended_cleanly boolean not null default true,
  lease_owner uuid,
  lease_epoch bigint not null default 0,
  lease_expires_at timestamptz,
  last_owner uuid,
  moving_to uuid,
  moving_at timestamptz,
  desired text not null default 'stopped'
    constraint whatsapp_baileys_sessions_desired_is_known check (desired in ('running', 'stopped')),
  updated_at timestamptz not null default now(),
  constraint whatsapp_baileys_sessions_lease_has_an_end check ((lease_owner is null) = (lease_expires_at is null)),
  constraint whatsapp_baileys_sessions_move_has_a_time check ((moving_to is null) = (moving_at is null))
);
create index whatsapp_baileys_sessions_by_lease_owner on public.whatsapp_baileys_sessions (lease_owner);
comment on table public.whatsapp_baileys_sessions is
  'One row an account: which host runs it (lease), whether it should run, and its sealed session state. Service role only.';
comment on column public.whatsapp_baileys_sessions.id is 'Identifier.';
comment on column public.whatsapp_baileys_sessions.integration_account_id is 'The account.';
comment on column public.whatsapp_baileys_sessions.auth_state is
  'WhatsApp keys of the account, sealed with BAILEYS_AUTH_SECRET; null when it is not linked.';
comment on column public.whatsapp_baileys_sessions.generation is
  'Counts the saved states. A save must bring exactly the next number; it never falls.';
comment on column public.whatsapp_baileys_sessions.saved_at is 'When the state was last saved.';
comment on column public.whatsapp_baileys_sessions.ended_cleanly is
  'False from when a session is opened until it has ended with its last state saved.';
comment on column public.whatsapp_baileys_sessions.lease_owner is 'The worker that runs the account now.';
comment on column public.whatsapp_baileys_sessions.lease_epoch is
  'Counts how often the account changed hands. Every write of the bridge carries it (fencing); it never falls.';
comment on column public.whatsapp_baileys_sessions.lease_expires_at is 'Until when the lease holds, by the clock of the database.';
comment on column public.whatsapp_baileys_sessions.last_owner is
  'The worker that held the last lease: its disk may still have the session and unrecorded events.';
comment on column public.whatsapp_baileys_sessions.moving_to is
  'A worker with fewer accounts that asked for this one: the holder gives it back, and nobody else takes it for a while.';
comment on column public.whatsapp_baileys_sessions.moving_at is 'When it asked.';
comment on column public.whatsapp_baileys_sessions.desired is 'running or stopped: whether the account should have a session.';
comment on column public.whatsapp_baileys_sessions.updated_at is 'When a column last changed.';

create table public.whatsapp_baileys_auth_deltas (
  integration_account_id uuid not null
    references public.whatsapp_baileys_sessions (integration_account_id) on delete cascade,
  generation bigint not null,
  delta jsonb not null
    constraint whatsapp_baileys_auth_deltas_delta_is_an_object check (jsonb_typeof(delta) = 'object'),
  created_at timestamptz not null default now(),
  primary key (integration_account_id, generation)
);
comment on table public.whatsapp_baileys_auth_deltas is
  'Changes of auth_state since it was last saved whole, in order of generation. Service role only.';
comment on column public.whatsapp_baileys_auth_deltas.integration_account_id is 'The account.';
comment on column public.whatsapp_baileys_auth_deltas.generation is 'The generation that this change makes.';
comment on column public.whatsapp_baileys_auth_deltas.delta is 'The change, sealed like auth_state.';
comment on column public.whatsapp_baileys_auth_deltas.created_at is 'When it was saved.';

create table whatsapp_private.message_counters (
  integration_account_id uuid primary key references public.integration_accounts (id) on delete cascade,
  last_seq bigint not null default 0
);
comment on table whatsapp_private.message_counters is
  'Last messages.seq of an account. Whoever adds messages holds this row until commit, so seq grows in commit order.';
comment on column whatsapp_private.message_counters.integration_account_id is 'The account.';
comment on column whatsapp_private.message_counters.last_seq is 'The highest seq given away.';

create function whatsapp_private.keep_session_forward() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if new.generation < old.generation or new.lease_epoch < old.lease_epoch then
    raise exception 'generation and lease_epoch of a session never fall.' using errcode = '23514';
  end if;
  return new;
end
$$;
comment on function whatsapp_private.keep_session_forward() is
  'Trigger: neither a saved state nor a lease is ever rolled back.';
create trigger whatsapp_baileys_sessions_never_go_back
  before update of generation, lease_epoch on public.whatsapp_baileys_sessions
  for each row execute function whatsapp_private.keep_session_forward();
create trigger whatsapp_baileys_sessions_touch_updated_at
  before update on public.whatsapp_baileys_sessions
  for each row when (old.* is distinct from new.*)
  execute function whatsapp_private.touch_updated_at();

-- security definer: members insert accounts, and have no rights on these tables
create function whatsapp_private.add_session_of_account() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  insert into public.whatsapp_baileys_sessions (integration_account_id) values (new.id);
  insert into whatsapp_private.message_counters (integration_account_id) values (new.id);
  return null;
end
$$;
comment on function whatsapp_private.add_session_of_account() is
  'Trigger: every account has one session row and one message counter.';
create trigger integration_accounts_have_a_session
  after insert on public.integration_accounts
  for each row execute function whatsapp_private.add_session_of_account();

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;

revoke all on public.whatsapp_baileys_sessions, public.whatsapp_baileys_auth_deltas, whatsapp_private.message_counters
  from public, anon, authenticated, service_role;
grant select, insert, update, delete
  on public.whatsapp_baileys_sessions, public.whatsapp_baileys_auth_deltas, whatsapp_private.message_counters
  to service_role;
alter table public.whatsapp_baileys_sessions enable row level security;
alter table public.whatsapp_baileys_auth_deltas enable row level security;
