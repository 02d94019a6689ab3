-- Who got, read and played an own message. The message's status is the best of them.
create table public.message_receipts (
  message_id uuid not null references public.messages (id) on delete cascade,
  lead_id uuid not null references public.leads (id) on delete cascade,
  workspace_id uuid not null,
  delivered_at timestamptz,
  read_at timestamptz,
  played_at timestamptz,
  primary key (message_id, lead_id)
);
create index message_receipts_by_lead on public.message_receipts (lead_id);
create index message_receipts_by_workspace on public.message_receipts (workspace_id);
comment on table public.message_receipts is 'Receipts of own messages, one row a reader; in groups there are several.';
comment on column public.message_receipts.message_id is 'The message.';
comment on column public.message_receipts.lead_id is 'Who got it.';
comment on column public.message_receipts.workspace_id is 'The workspace.';
comment on column public.message_receipts.delivered_at is 'When it reached a device of the reader.';
comment on column public.message_receipts.read_at is 'When it was read.';
comment on column public.message_receipts.played_at is 'When it was played (voice, video).';

create table whatsapp_private.early_receipts (
  integration_account_id uuid not null references public.integration_accounts (id) on delete cascade,
  whatsapp_message_id text not null,
  type text not null
    constraint early_receipts_type_is_known check (type in ('delivered', 'read', 'played', 'read_self')),
  chat_jid text not null,
  peer_lead_id uuid references public.leads (id) on delete cascade,
  reader_lead_id uuid references public.leads (id) on delete cascade,
  happened_at timestamptz not null,
  created_at timestamptz not null default now(),
  constraint early_receipts_are_kept_once
    unique nulls not distinct (integration_account_id, whatsapp_message_id, type, chat_jid, reader_lead_id)
);
create index early_receipts_by_peer_lead on whatsapp_private.early_receipts (peer_lead_id);
create index early_receipts_by_reader_lead on whatsapp_private.early_receipts (reader_lead_id);
create index early_receipts_by_age on whatsapp_private.early_receipts (created_at);
comment on table whatsapp_private.early_receipts is
  'Receipts that came before their message. Applied when it comes; forgotten after the days of limits.events_kept_days.';
comment on column whatsapp_private.early_receipts.integration_account_id is 'The account.';
comment on column whatsapp_private.early_receipts.whatsapp_message_id is 'The message, as WhatsApp calls it.';
comment on column whatsapp_private.early_receipts.type is 'delivered, read, played or read_self.';
comment on column whatsapp_private.early_receipts.chat_jid is 'The chat, as the receipt named it.';
comment on column whatsapp_private.early_receipts.peer_lead_id is 'The person, in a direct chat.';
comment on column whatsapp_private.early_receipts.reader_lead_id is 'Who it is from; null if from oneself.';
comment on column whatsapp_private.early_receipts.happened_at is 'When it was delivered, read or played.';
comment on column whatsapp_private.early_receipts.created_at is 'When the row was inserted.';

revoke all on public.message_receipts, whatsapp_private.early_receipts from public, anon, authenticated, service_role;
grant select on public.message_receipts to authenticated;
grant select, insert, update, delete on public.message_receipts, whatsapp_private.early_receipts to service_role;
alter table public.message_receipts enable row level security;
create policy "members read receipts of their workspaces" on public.message_receipts
  for select to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('viewer')));
