-- The inbox of the bridge: a frontend inserts rows here and watches them change.
-- What happens at insert (validation, the message row of a `send`) is in …command_submission.sql.
create table public.commands (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  integration_account_id uuid not null references public.integration_accounts (id) on delete cascade,
  type text not null,
  payload jsonb not null default '{}',
  status text not null default 'pending'
    constraint commands_status_is_known check (
      status in ('pending', 'running', 'done', 'failed', 'unknown', 'cancelled', 'expired')
    ),
  idempotency_key text,
  priority smallint not null default 0
    constraint commands_priority_is_from_minus_100_to_100 check (priority between -100 and 100),
  run_at timestamptz not null default now(),
  expires_at timestamptz,
  attempts integer not null default 0,
  result jsonb,
  error_code text,
  error_message text,
  conversation_id uuid references public.conversations (id) on delete set null,
  chat_jid text,
  message_id uuid,
  target_message_id uuid,
  lease_epoch bigint,
  created_by uuid default auth.uid() references auth.users (id) on delete set null,
  created_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  finished_at timestamptz
);
create unique index commands_idempotency_key_is_unique_per_account
  on public.commands (integration_account_id, idempotency_key);
create unique index commands_run_one_at_a_time_per_conversation
  on public.commands (conversation_id) where status = 'running';
create unique index commands_run_one_lifecycle_change_at_a_time
  on public.commands (integration_account_id)
  where status = 'running' and type in ('connect', 'disconnect', 'logout');
create index commands_pending_in_order
  on public.commands (integration_account_id, priority desc, created_at, id) where status = 'pending';
-- The conditions beside the status keep these from being taken for queries they are not for: to the
-- planner, with its stale statistics of a queue, all of them look empty and equally good.
create index commands_unfinished_of_conversation
  on public.commands (conversation_id, priority desc, created_at, id)
  where status in ('pending', 'running') and conversation_id is not null;
create index commands_unfinished_lifecycle_changes
  on public.commands (integration_account_id)
  where status in ('pending', 'running') and type in ('connect', 'disconnect', 'logout');
create index commands_running on public.commands (integration_account_id) where status = 'running';
create index commands_overdue on public.commands (expires_at)
  where status = 'pending' and expires_at is not null;
create index commands_latest_first on public.commands (workspace_id, created_at desc);
create index commands_by_conversation on public.commands (conversation_id);
create index commands_by_target on public.commands (target_message_id) where target_message_id is not null;
create index commands_by_creator on public.commands (created_by) where created_by is not null;

comment on table public.commands is
  'What the bridge shall do. Insert a row; it is refused with a sentence if something is wrong with it, and otherwise claimed, executed and finished in place.';
comment on column public.commands.id is 'Identifier; may be given, so that a client knows it beforehand.';
comment on column public.commands.workspace_id is 'The workspace of the account; filled in.';
comment on column public.commands.integration_account_id is 'The account that shall do it.';
comment on column public.commands.type is
  'connect, disconnect, logout, send, edit, revoke, react, mark_read, typing, check_numbers, sync_history, '
  'refresh_profile, group_create, group_update, group_participants, group_invite, group_leave, set_profile, block, '
  'unblock or reject_call.';
comment on column public.commands.payload is
  'By type; docs/commands.md lists all. connect: {"method": "qr"} or {"method": "code", "phone"}. '
  'send: {"to", "type": "text", "text"} and other kinds; to is a phone number, a JID, a lead id or a conversation id. '
  'Numbers and lead ids in mentions, participants and contacts are replaced by JIDs or digits.';
comment on column public.commands.status is
  'pending → running → done, failed or unknown (it is not known whether WhatsApp got it; it is not repeated). '
  'A pending one may become cancelled (by its author) or expired.';
comment on column public.commands.idempotency_key is
  'Optional, unique per account: a second insert with the same key is refused and sends nothing.';
comment on column public.commands.priority is 'Higher goes first, -100 to 100.';
comment on column public.commands.run_at is 'Not before this time; at most a year ahead. Moved by retries.';
comment on column public.commands.expires_at is
  'Not begun after this time; then it expires. Default: 24 hours after run_at.';
comment on column public.commands.attempts is 'How often it was begun.';
comment on column public.commands.result is
  'By type. send, edit, revoke, react: {"message_id", "whatsapp_message_id", "timestamp"}. connect: {"status"}.';
comment on column public.commands.error_code is 'Why it failed, as a stable code.';
comment on column public.commands.error_message is 'Why it failed, as one sentence for a person.';
comment on column public.commands.conversation_id is
  'The conversation it belongs to; filled in. Commands of one conversation run in order.';
comment on column public.commands.chat_jid is 'Address of that conversation; filled in.';
comment on column public.commands.message_id is 'send: the message row, made at once; filled in.';
comment on column public.commands.target_message_id is
  'edit, revoke, react, reject_call: the message it is about; send: the message it answers. Filled in.';
comment on column public.commands.lease_epoch is 'Lease under which it was claimed last; fencing of the bridge.';
comment on column public.commands.created_by is 'The user who inserted it; filled in.';
comment on column public.commands.created_at is 'When it was inserted; orders commands of equal priority.';
comment on column public.commands.started_at is 'When it was begun last.';
comment on column public.commands.finished_at is 'When it reached its final status.';

revoke all on public.commands from public, anon, authenticated, service_role;
grant select,
  insert (id, workspace_id, integration_account_id, type, payload, idempotency_key, priority, run_at, expires_at),
  update (status)
  on public.commands to authenticated;
grant select, insert, update, delete on public.commands to service_role;
alter table public.commands enable row level security;
create policy "members read commands of their workspaces" on public.commands
  for select to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('viewer')));
create policy "agents give commands to accounts of their workspaces" on public.commands
  for insert to authenticated
  with check (workspace_id in (select public.whatsapp_workspaces_of_caller('agent')));
create policy "agents cancel their own pending commands" on public.commands
  for update to authenticated
  using (
    status = 'pending'
    and created_by = (select auth.uid())
    and workspace_id in (select public.whatsapp_workspaces_of_caller('agent'))
  )
  with check (
    status = 'cancelled'
    and workspace_id in (select public.whatsapp_workspaces_of_caller('agent'))
  );
