-- A chat of an account, which is also the ticket that a team works on.
create table public.conversations (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  integration_account_id uuid not null references public.integration_accounts (id) on delete cascade,
  lead_id uuid references public.leads (id) on delete cascade,
  chat_jid text not null
    constraint conversations_chat_jid_is_a_jid check (chat_jid ~ '^[^@\s]+@[^@\s]+$'),
  kind text not null
    constraint conversations_kind_is_known check (kind in ('direct', 'group', 'newsletter', 'broadcast', 'status')),
  nome text,
  description text,
  avatar_url text,
  ultima_mensagem text,
  ultima_mensagem_em timestamptz,
  nao_lidas integer not null default 0
    constraint conversations_nao_lidas_is_a_count check (nao_lidas >= 0),
  status text not null default 'open'
    constraint conversations_status_is_known check (status in ('open', 'pending', 'resolved')),
  assigned_to uuid references auth.users (id) on delete set null,
  labels text[] not null default '{}',
  archived boolean not null default false,
  pinned boolean not null default false,
  muted_until timestamptz,
  disappears_after_s integer
    constraint conversations_disappear_after_a_while check (disappears_after_s between 60 and 31622400),
  disappears_since timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default now(),
  constraint conversations_direct_ones_have_a_lead check ((kind = 'direct') = (lead_id is not null))
);
create unique index conversations_one_per_chat on public.conversations (integration_account_id, chat_jid);
create unique index conversations_one_per_lead on public.conversations (integration_account_id, lead_id);
create index conversations_by_lead on public.conversations (lead_id);
create index conversations_latest_first on public.conversations (workspace_id, ultima_mensagem_em desc nulls last);
create index conversations_by_assignee on public.conversations (assigned_to) where assigned_to is not null;
comment on table public.conversations is
  'A chat of an account: with one person (direct), or a group, channel, broadcast list or status feed. Its status is the ticket.';
comment on column public.conversations.id is 'Identifier.';
comment on column public.conversations.workspace_id is 'The workspace.';
comment on column public.conversations.integration_account_id is 'The account the chat belongs to.';
comment on column public.conversations.lead_id is 'The person, in a direct chat; null otherwise.';
comment on column public.conversations.chat_jid is 'Address of the chat: phone JID when known, else LID; group JID.';
comment on column public.conversations.kind is 'direct, group, newsletter, broadcast or status.';
comment on column public.conversations.nome is 'Name of the person or subject of the group, as far as known.';
comment on column public.conversations.description is 'What a group says of itself; null if nothing, or not known.';
comment on column public.conversations.avatar_url is
  'Path of the picture of the person or group in the private bucket whatsapp-media, to be read with a signed URL; null if there is none.';
comment on column public.conversations.ultima_mensagem is
  'Beginning of the latest message: its text, or a sign of its kind (📷 🎬 🎤 📄 🏷️ 📍 👤 📊 📞) with the caption; 🚫 if it was deleted.';
comment on column public.conversations.ultima_mensagem_em is 'When the latest message was sent.';
comment on column public.conversations.nao_lidas is 'How many incoming messages nobody read yet.';
comment on column public.conversations.status is
  'The ticket: open, pending or resolved. Editable; an incoming message opens it again.';
comment on column public.conversations.assigned_to is 'Who works on it. Editable.';
comment on column public.conversations.labels is 'Words to find it by, at most 100 of at most 100 characters. Editable.';
comment on column public.conversations.archived is 'Whether it is put away. Editable; follows the phone, too.';
comment on column public.conversations.pinned is 'Whether it is kept on top. Editable; follows the phone, too.';
comment on column public.conversations.muted_until is 'Until when it makes no noise. Editable; follows the phone, too.';
comment on column public.conversations.disappears_after_s is
  'The timer of disappearing messages, in seconds, as last told in the chat; null = off. What is sent carries it.';
comment on column public.conversations.disappears_since is
  'When that was told: an older word changes nothing.';
comment on column public.conversations.created_at is 'When the row was inserted.';
comment on column public.conversations.updated_at is 'When a column last changed.';

create trigger conversations_touch_updated_at
  before update on public.conversations
  for each row when (old.* is distinct from new.*)
  execute function whatsapp_private.touch_updated_at();

create function whatsapp_private.check_labels() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if cardinality(new.labels) > 100
    or exists (select from unnest(new.labels) as label where char_length(label) > 100)
  then
    raise exception 'A conversation has at most 100 labels of at most 100 characters.' using errcode = '22023';
  end if;
  return new;
end
$$;
comment on function whatsapp_private.check_labels() is 'Trigger: labels are few and short.';
create trigger conversations_have_few_labels
  before insert or update of labels on public.conversations
  for each row execute function whatsapp_private.check_labels();

create function whatsapp_private.is_member(p_workspace uuid, p_user uuid) returns boolean
language sql stable
set search_path = ''
as $$
  select exists (
    select from public.workspace_members where workspace_id = p_workspace and user_id = p_user
  )
$$;
comment on function whatsapp_private.is_member(uuid, uuid) is
  'Whether somebody belongs to a workspace; replaced by a project with its own tenancy that does not mirror its members.';

-- security definer: whoever assigns need not see all members
create function whatsapp_private.check_assignee() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if not whatsapp_private.is_member(new.workspace_id, new.assigned_to) then
    raise exception 'assigned_to must be a member of the workspace.' using errcode = '22023';
  end if;
  return new;
end
$$;
comment on function whatsapp_private.check_assignee() is
  'Trigger: a conversation is given to members of its workspace only.';
create trigger conversations_are_assigned_to_members
  before insert or update of assigned_to on public.conversations
  for each row when (new.assigned_to is not null)
  execute function whatsapp_private.check_assignee();

-- security definer: who removes a member may not write conversations
create function whatsapp_private.unassign_who_left() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  update public.conversations set assigned_to = null
  where assigned_to = old.user_id and workspace_id = old.workspace_id;
  return null;
end
$$;
comment on function whatsapp_private.unassign_who_left() is
  'Trigger: who leaves a workspace works on none of its conversations any more.';
create trigger workspace_members_leave_their_conversations
  after delete on public.workspace_members
  for each row execute function whatsapp_private.unassign_who_left();

create function whatsapp_private.display_name(p_nome text, p_push_name text, p_business_name text, p_telefone text)
returns text
language sql immutable
set search_path = ''
as $$
  select coalesce(nullif(btrim(p_nome), ''), p_push_name, p_business_name, '+' || p_telefone)
$$;
comment on function whatsapp_private.display_name(text, text, text, text) is
  'What a direct conversation is called; null while only a LID is known, which is no name.';

-- security definer: a member may edit the lead''s name, and not the conversation''s
create function whatsapp_private.rename_conversations_of_lead() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  update public.conversations as conversation
  set nome = whatsapp_private.display_name(new.nome, new.push_name, new.business_name, new.telefone)
  where conversation.lead_id = new.id
    and conversation.nome is distinct from
      whatsapp_private.display_name(new.nome, new.push_name, new.business_name, new.telefone);
  return null;
end
$$;
comment on function whatsapp_private.rename_conversations_of_lead() is
  'Trigger: a direct conversation is called what its person is called.';
create trigger conversations_follow_the_name_of_their_lead
  after update of nome, push_name, business_name, telefone on public.leads
  for each row execute function whatsapp_private.rename_conversations_of_lead();

create table whatsapp_private.merged_rows (
  old_id uuid primary key,
  new_id uuid not null,
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  merged_at timestamptz not null default now()
);
create index merged_rows_by_new_id on whatsapp_private.merged_rows (new_id);
comment on table whatsapp_private.merged_rows is
  'Where a lead or conversation went when it was merged into another: a client may still hold the old id.';
comment on column whatsapp_private.merged_rows.old_id is 'Id of the row that is gone.';
comment on column whatsapp_private.merged_rows.new_id is 'Id of the row that took its place.';
comment on column whatsapp_private.merged_rows.workspace_id is 'The workspace of both.';
comment on column whatsapp_private.merged_rows.merged_at is 'When they were merged.';

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;

revoke all on public.conversations, whatsapp_private.merged_rows from public, anon, authenticated, service_role;
grant select, update (status, assigned_to, labels, archived, pinned, muted_until)
  on public.conversations to authenticated;
grant select, insert, update, delete on public.conversations, whatsapp_private.merged_rows to service_role;
alter table public.conversations enable row level security;
create policy "members read conversations of their workspaces" on public.conversations
  for select to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('viewer')));
create policy "agents work on conversations of their workspaces" on public.conversations
  for update to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('agent')))
  with check (workspace_id in (select public.whatsapp_workspaces_of_caller('agent')));
