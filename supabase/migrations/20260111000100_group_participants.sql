-- Who is in a group, and as what. Not leads: a community has thousands who never wrote.
create table public.group_participants (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  conversation_id uuid not null references public.conversations (id) on delete cascade,
  phone_jid text
    constraint group_participants_phone_jid_is_one check (phone_jid ~ '^[^@\s]+@s\.whatsapp\.net$'),
  lid text
    constraint group_participants_lid_is_one check (lid ~ '^[^@\s]+@lid$'),
  role text not null
    constraint group_participants_role_is_known check (role in ('member', 'admin')),
  created_at timestamptz not null default now(),
  constraint group_participants_have_an_address check (num_nonnulls(phone_jid, lid) > 0)
);
create unique index group_participants_once_by_phone on public.group_participants (conversation_id, phone_jid);
create unique index group_participants_once_by_lid on public.group_participants (conversation_id, lid);
create index group_participants_by_workspace on public.group_participants (workspace_id);
comment on table public.group_participants is
  'Who is in a group now, the account included. The view group_people has their names.';
comment on column public.group_participants.id is 'Identifier; another one when the person comes back.';
comment on column public.group_participants.workspace_id is 'The workspace.';
comment on column public.group_participants.conversation_id is 'The group.';
comment on column public.group_participants.phone_jid is 'Phone JID of the person; null until it is known.';
comment on column public.group_participants.lid is 'LID of the person; null until it is known. Never a phone number.';
comment on column public.group_participants.role is 'member or admin.';
comment on column public.group_participants.created_at is 'When the row was inserted.';

revoke all on public.group_participants from public, anon, authenticated, service_role;
grant select on public.group_participants to authenticated;
grant select, insert, update, delete on public.group_participants to service_role;
alter table public.group_participants enable row level security;
create policy "members read participants of groups of their workspaces" on public.group_participants
  for select to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('viewer')));

create view public.group_people with (security_invoker = true) as
  select participant.id, participant.workspace_id, participant.conversation_id, participant.phone_jid,
    participant.lid, participant.role, lead.id as lead_id,
    coalesce(
      nullif(btrim(lead.nome), ''), lead.push_name, lead.business_name,
      '+' || nullif(regexp_replace(participant.phone_jid, '[^0-9].*', ''), '')
    ) as nome,
    lead.avatar_url
  from public.group_participants as participant
  left join lateral (
    select known.* from public.leads as known
    where known.workspace_id = participant.workspace_id
      and (known.whatsapp_wa_id = participant.phone_jid or known.lid = participant.lid)
    order by known.created_at limit 1
  ) as lead on true;
comment on view public.group_people is
  'Who is in a group, with the name and picture of the lead, if the person is one.';
comment on column public.group_people.id is 'Of the row in group_participants.';
comment on column public.group_people.workspace_id is 'The workspace.';
comment on column public.group_people.conversation_id is 'The group.';
comment on column public.group_people.phone_jid is 'Phone JID; null until it is known.';
comment on column public.group_people.lid is 'LID; null until it is known.';
comment on column public.group_people.role is 'member or admin.';
comment on column public.group_people.lead_id is 'The lead; null if the person never wrote and was never written to.';
comment on column public.group_people.nome is 'Name of the lead, or the number; null while only a LID is known.';
comment on column public.group_people.avatar_url is 'Picture of the lead.';
revoke all on public.group_people from public, anon, authenticated, service_role;
grant select on public.group_people to authenticated, service_role;

create function whatsapp_private.keep_participants(
  p_conversation uuid, p_workspace uuid, p_people jsonb, p_role text
) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  person jsonb;
  changed boolean := false;
begin
  for person in select value from jsonb_array_elements(p_people) loop
    -- known under one address each: one of the two rows takes both
    delete from public.group_participants as other
    where other.conversation_id = p_conversation
      and other.lid = person ->> 'lid'
      and other.phone_jid is distinct from person ->> 'phone_jid'
      and exists (
        select from public.group_participants as known
        where known.conversation_id = p_conversation
          and known.phone_jid = person ->> 'phone_jid'
          and known.id <> other.id
      );
    update public.group_participants as known
    set phone_jid = coalesce(person ->> 'phone_jid', known.phone_jid),
      lid = coalesce(person ->> 'lid', known.lid),
      role = coalesce(p_role, person ->> 'role', known.role)
    where known.conversation_id = p_conversation
      and (known.phone_jid = person ->> 'phone_jid' or known.lid = person ->> 'lid');
    if not found then
      insert into public.group_participants (workspace_id, conversation_id, phone_jid, lid, role)
      select p_workspace, p_conversation, person ->> 'phone_jid', person ->> 'lid',
        coalesce(p_role, person ->> 'role', 'member')
      where num_nonnulls(person ->> 'phone_jid', person ->> 'lid') > 0;
    end if;
    changed := true;
  end loop;
  return changed;
end
$$;
comment on function whatsapp_private.keep_participants(uuid, uuid, jsonb, text) is
  'These people [{phone_jid, lid, role}] are in the group; p_role, if given, is what all of them are.';

create function whatsapp_private.drop_participants(p_conversation uuid, p_people jsonb) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  delete from public.group_participants as known
  using jsonb_array_elements(p_people) as person
  where known.conversation_id = p_conversation
    and (known.phone_jid = person ->> 'phone_jid' or known.lid = person ->> 'lid');
  return found;
end
$$;
comment on function whatsapp_private.drop_participants(uuid, jsonb) is 'These people [{phone_jid, lid}] are not in the group any more.';

create function whatsapp_private.record_group(p_account uuid, p_workspace uuid, p_event jsonb) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  people constant jsonb := nullif(p_event -> 'participants', 'null');
  chat uuid;
  changed boolean;
begin
  select conversation.id into chat from public.conversations as conversation
  where conversation.integration_account_id = p_account
    and conversation.chat_jid = p_event ->> 'jid'
    and conversation.kind <> 'direct';
  if chat is null then
    return false;
  end if;
  update public.conversations as conversation
  set nome = coalesce(p_event ->> 'subject', conversation.nome),
    description = case
      when p_event ->> 'description' is null then conversation.description else nullif(p_event ->> 'description', '')
    end
  where conversation.id = chat
    and (
      conversation.nome is distinct from coalesce(p_event ->> 'subject', conversation.nome)
      or coalesce(conversation.description, '')
        <> coalesce(p_event ->> 'description', conversation.description, '')
    );
  changed := found;
  if people is not null then
    delete from public.group_participants as gone
    where gone.conversation_id = chat
      and not exists (
        select from jsonb_array_elements(people) as person
        where gone.phone_jid = person ->> 'phone_jid' or gone.lid = person ->> 'lid'
      );
    changed := whatsapp_private.keep_participants(chat, p_workspace, people, null) or changed;
  -- news of a group whose people are not known yet would make a list that looks complete
  elsif exists (select from public.group_participants as known where known.conversation_id = chat) then
    changed := whatsapp_private.keep_participants(chat, p_workspace, coalesce(p_event -> 'joined', '[]'), 'member') or changed;
    changed := whatsapp_private.keep_participants(chat, p_workspace, coalesce(p_event -> 'promoted', '[]'), 'admin') or changed;
    changed := whatsapp_private.keep_participants(chat, p_workspace, coalesce(p_event -> 'demoted', '[]'), 'member') or changed;
    changed := whatsapp_private.drop_participants(chat, coalesce(p_event -> 'left', '[]')) or changed;
  end if;
  return changed;
end
$$;
comment on function whatsapp_private.record_group(uuid, uuid, jsonb) is
  'What a group is called, says of itself and who is in it: as a whole (participants: [{phone_jid, lid, role}]), or what changed (joined, left, promoted, demoted: [{phone_jid, lid}]). What is null did not change.';

create function whatsapp_private.groups_to_ask_for(p_account uuid, p_events jsonb) returns jsonb
language sql stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(distinct conversation.chat_jid), '[]')
  from jsonb_array_elements(p_events) as told
  join public.conversations as conversation
    on conversation.integration_account_id = p_account
    and conversation.chat_jid = told #>> '{chat,jid}'
  where told ->> 'kind' in ('message', 'system')
    and conversation.kind = 'group'
    and (
      conversation.nome is null
      or not exists (
        select from public.group_participants as known where known.conversation_id = conversation.id
      )
    )
$$;
comment on function whatsapp_private.groups_to_ask_for(uuid, jsonb) is
  'Addresses of groups in these events whose subject or people are not known yet.';

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
