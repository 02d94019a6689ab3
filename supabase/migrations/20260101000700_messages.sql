-- One row a message, incoming or own, from any device.
create table public.messages (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  integration_account_id uuid not null references public.integration_accounts (id) on delete cascade,
  conversation_id uuid not null references public.conversations (id) on delete cascade,
  whatsapp_message_id text,
  from_me boolean not null,
  chat_jid text,
  sender_id text,
  sender_lead_id uuid references public.leads (id) on delete set null,
  sender_nome text,
  sender_avatar_url text,
  tipo text not null
    constraint messages_tipo_is_known check (
      tipo in (
        'text', 'image', 'video', 'audio', 'document', 'sticker', 'location', 'contact', 'poll',
        'reaction', 'call', 'system', 'unsupported'
      )
    ),
  conteudo text,
  quoted_message_id text,
  mentions text[] not null default '{}',
  payload jsonb not null default '{}'
    constraint messages_payload_is_an_object check (jsonb_typeof(payload) = 'object'),
  pending_changes jsonb not null default '{}'
    constraint messages_pending_changes_are_an_object check (jsonb_typeof(pending_changes) = 'object'),
  status text not null
    constraint messages_status_is_known check (
      status in ('pending', 'sent', 'delivered', 'read', 'played', 'failed')
    ),
  error_code text,
  edited_at timestamptz,
  revoked_at timestamptz,
  sent_at timestamptz not null,
  -- checked at commit: a command's message row is made just before the command's own row
  command_id uuid references public.commands (id) on delete set null deferrable initially deferred,
  seq bigint not null,
  created_at timestamptz not null default now()
);
create unique index messages_are_recorded_once
  on public.messages (conversation_id, from_me, whatsapp_message_id);
create unique index messages_seq_is_unique_per_account on public.messages (integration_account_id, seq);
create index messages_in_order on public.messages (conversation_id, sent_at, seq);
create index messages_incoming_latest_first
  on public.messages (conversation_id, sent_at desc) where not from_me and tipo <> 'system';
create index messages_by_sender_lead on public.messages (sender_lead_id);
create index messages_by_command on public.messages (command_id) where command_id is not null;
create index messages_latest_first on public.messages (workspace_id, created_at desc);
-- Realtime leaves out long values that did not change unless it sees the whole old row: without
-- this, a long text would be missing from every "delivered" and "read" of its message.
alter table public.messages replica identity full;

comment on table public.messages is
  'Messages of all conversations. A client that was away catches up with seq > the last one it saw.';
comment on column public.messages.id is 'Identifier.';
comment on column public.messages.workspace_id is 'The workspace.';
comment on column public.messages.integration_account_id is 'The account.';
comment on column public.messages.conversation_id is 'The conversation.';
comment on column public.messages.whatsapp_message_id is
  'What WhatsApp calls it: unique per conversation and direction; null until a send was accepted.';
comment on column public.messages.from_me is 'Sent by the account, here or on another of its devices.';
comment on column public.messages.chat_jid is 'Address of the chat as WhatsApp named it with this message.';
comment on column public.messages.sender_id is 'JID of who wrote it.';
comment on column public.messages.sender_lead_id is 'Who wrote it, if not the account itself.';
comment on column public.messages.sender_nome is 'Name of who wrote it, as known at that time.';
comment on column public.messages.sender_avatar_url is
  'Path of the sender''s picture in the private bucket whatsapp-media, to be read with a signed URL; null if there was none. When the sender has another picture, older messages get that one some minutes later.';
comment on column public.messages.tipo is
  'text, image, video, audio, document, sticker, location, contact, poll, reaction, call, system or unsupported.';
comment on column public.messages.conteudo is 'The text, or the caption.';
comment on column public.messages.quoted_message_id is 'WhatsApp id of the message it answers.';
comment on column public.messages.mentions is 'JIDs mentioned in the text.';
comment on column public.messages.payload is
  'What is particular to its kind. {"placeholder": true}: it could not be decrypted yet and may be filled later.';
comment on column public.messages.pending_changes is
  'What was asked for and WhatsApp has not taken yet: {"edit": {"command_id", "text"}, "revoke": {"command_id"}, '
  '"react": {"command_id", "emoji"}}. A key goes when its command is done, failed or cancelled.';
comment on column public.messages.status is
  'Own: pending, sent, delivered, read, played or failed; it only rises. Incoming: delivered.';
comment on column public.messages.error_code is 'Why it failed, as a stable code.';
comment on column public.messages.edited_at is 'When its text was last changed.';
comment on column public.messages.revoked_at is 'When it was deleted for everyone.';
comment on column public.messages.sent_at is 'When it was sent; orders a conversation.';
comment on column public.messages.command_id is 'The command that sent it, if one did.';
comment on column public.messages.seq is
  'Number within the account, given in commit order: whoever has seen n and asks for seq > n misses no row. A message that is filled, edited, revoked or voted on gets a new one.';
comment on column public.messages.created_at is 'When the row was inserted.';

alter table public.commands
  add constraint commands_message_id_fkey
  foreign key (message_id) references public.messages (id) on delete set null;
create index commands_by_message on public.commands (message_id) where message_id is not null;

revoke all on public.messages from public, anon, authenticated, service_role;
grant select on public.messages to authenticated;
grant select, insert, update, delete on public.messages to service_role;
alter table public.messages enable row level security;
create policy "members read messages of their workspaces" on public.messages
  for select to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('viewer')));
