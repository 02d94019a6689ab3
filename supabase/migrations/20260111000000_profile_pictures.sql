-- What people and groups look like: whose picture is to be asked for, and when. WhatsApp is asked
-- once when an account first meets somebody, when it tells of a new picture, when a member wants it
-- (refresh_profile), and every 14 days otherwise; of one account, one after the other.
create table whatsapp_private.profile_pictures (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  integration_account_id uuid not null references public.integration_accounts (id) on delete cascade,
  lead_id uuid references public.leads (id) on delete cascade,
  conversation_id uuid references public.conversations (id) on delete cascade,
  state text not null default 'unknown'
    constraint profile_pictures_state_is_known check (state in ('unknown', 'stored', 'none', 'hidden', 'failed')),
  picture_id text,
  run_at timestamptz not null default now(),
  attempts integer not null default 0,
  claimed_epoch bigint,
  checked_at timestamptz,
  created_at timestamptz not null default now(),
  constraint profile_pictures_are_of_a_person_or_a_group check (num_nonnulls(lead_id, conversation_id) = 1)
);
-- an account sees what a person shows to it, which another account need not see
create unique index profile_pictures_one_a_person
  on whatsapp_private.profile_pictures (integration_account_id, lead_id) where lead_id is not null;
create unique index profile_pictures_one_a_group
  on whatsapp_private.profile_pictures (conversation_id) where conversation_id is not null;
create index profile_pictures_by_lead on whatsapp_private.profile_pictures (lead_id) where lead_id is not null;
create index profile_pictures_by_time on whatsapp_private.profile_pictures (integration_account_id, run_at);
comment on table whatsapp_private.profile_pictures is
  'What is known of the pictures of people and groups that an account met, and when it asks again.';
comment on column whatsapp_private.profile_pictures.id is 'Identifier.';
comment on column whatsapp_private.profile_pictures.workspace_id is 'The workspace.';
comment on column whatsapp_private.profile_pictures.integration_account_id is 'The account that asks.';
comment on column whatsapp_private.profile_pictures.lead_id is 'The person; or else:';
comment on column whatsapp_private.profile_pictures.conversation_id is 'The group.';
comment on column whatsapp_private.profile_pictures.state is
  'unknown: never asked; stored; none: there is none; hidden: this account may not see it; failed: it was given up.';
comment on column whatsapp_private.profile_pictures.picture_id is 'What WhatsApp calls the picture that is stored.';
comment on column whatsapp_private.profile_pictures.run_at is 'Not before this.';
comment on column whatsapp_private.profile_pictures.attempts is 'How often it was begun since it was known last.';
comment on column whatsapp_private.profile_pictures.claimed_epoch is 'The lease under which it is being fetched.';
comment on column whatsapp_private.profile_pictures.checked_at is 'When WhatsApp last answered.';
comment on column whatsapp_private.profile_pictures.created_at is 'When the row was inserted.';
revoke all on whatsapp_private.profile_pictures from public, anon, authenticated, service_role;
grant select, insert, update, delete on whatsapp_private.profile_pictures to service_role;

-- ---------------------------------------------------------------- who is met, and where it shows

create function whatsapp_private.meet_chat() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if new.kind = 'group' then
    insert into whatsapp_private.profile_pictures (workspace_id, integration_account_id, conversation_id)
    values (new.workspace_id, new.integration_account_id, new.id)
    on conflict do nothing;
  elsif new.kind = 'direct' then
    insert into whatsapp_private.profile_pictures (workspace_id, integration_account_id, lead_id)
    values (new.workspace_id, new.integration_account_id, new.lead_id)
    on conflict do nothing;
  end if;
  return null;
end
$$;
comment on function whatsapp_private.meet_chat() is
  'Trigger: the picture of a new chat is to be asked for.';
create trigger conversations_get_a_picture
  after insert or update of lead_id on public.conversations
  for each row execute function whatsapp_private.meet_chat();

create function whatsapp_private.show_picture_in_chat() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.avatar_url := (select lead.avatar_url from public.leads as lead where lead.id = new.lead_id);
  return new;
end
$$;
comment on function whatsapp_private.show_picture_in_chat() is
  'Trigger: a direct chat has the picture of its person.';
create trigger conversations_show_the_picture_of_their_lead
  before insert or update of lead_id on public.conversations
  for each row when (new.kind = 'direct')
  execute function whatsapp_private.show_picture_in_chat();

create function whatsapp_private.show_picture_of_lead() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  update public.conversations set avatar_url = new.avatar_url
  where lead_id = new.id and avatar_url is distinct from new.avatar_url;
  return null;
end
$$;
comment on function whatsapp_private.show_picture_of_lead() is
  'Trigger: direct chats have the picture of their person.';
create trigger leads_show_their_picture_in_chats
  after update of avatar_url on public.leads
  for each row when (new.avatar_url is distinct from old.avatar_url)
  execute function whatsapp_private.show_picture_of_lead();

create function whatsapp_private.meet_sender() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.sender_avatar_url := (select lead.avatar_url from public.leads as lead where lead.id = new.sender_lead_id);
  insert into whatsapp_private.profile_pictures (workspace_id, integration_account_id, lead_id)
  select new.workspace_id, new.integration_account_id, new.sender_lead_id
  where not exists (
    select from whatsapp_private.profile_pictures as known
    where known.integration_account_id = new.integration_account_id and known.lead_id = new.sender_lead_id
  )
  on conflict do nothing;
  return new;
end
$$;
comment on function whatsapp_private.meet_sender() is
  'Trigger: a message has the picture that its sender has now; the picture of a new sender is to be asked for.';
create trigger messages_show_the_picture_of_their_sender
  before insert on public.messages
  for each row when (new.sender_lead_id is not null)
  execute function whatsapp_private.meet_sender();

create function whatsapp_private.picture_changed(p_account uuid, p_workspace uuid, p_event jsonb) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  update whatsapp_private.profile_pictures as known
  set run_at = clock_timestamp(), attempts = 0
  where known.integration_account_id = p_account
    and (
      known.conversation_id = (
        select chat.id from public.conversations as chat
        where chat.integration_account_id = p_account and chat.chat_jid = p_event ->> 'group'
      )
      or known.lead_id in (
        select lead.id from public.leads as lead
        where lead.workspace_id = p_workspace
          and (lead.whatsapp_wa_id = p_event #>> '{person,phone_jid}' or lead.lid = p_event #>> '{person,lid}')
      )
    );
  return found;
end
$$;
comment on function whatsapp_private.picture_changed(uuid, uuid, jsonb) is
  'WhatsApp told of another picture, or of none any more: it is asked for soon. False for those whom the account did not meet.';

-- ---------------------------------------------------------------- whose turn it is

create function whatsapp_private.jid_of_picture(p_picture whatsapp_private.profile_pictures) returns text
language sql stable
set search_path = ''
as $$
  select coalesce(
    (select chat.chat_jid from public.conversations as chat where chat.id = p_picture.conversation_id),
    (select coalesce(lead.whatsapp_wa_id, lead.lid) from public.leads as lead where lead.id = p_picture.lead_id)
  )
$$;
comment on function whatsapp_private.jid_of_picture(whatsapp_private.profile_pictures) is 'Whom to ask for.';

create function public.bridge_claim_pictures(p_worker uuid, p_known uuid[])
returns table (
  id uuid, account_id uuid, workspace_id uuid, lease_epoch bigint, jid text, picture_id text, attempts integer
)
language sql
set search_path = ''
as $$
  with held as materialized (
    select * from whatsapp_private.connected_accounts(p_worker)
  ),
  candidates as materialized (
    select found.id, found.run_at, held.lease_epoch
    from held
    cross join lateral (
      select picture.id, picture.run_at
      from whatsapp_private.profile_pictures as picture
      where picture.integration_account_id = held.account_id
        and picture.run_at <= now()
        -- what was claimed under this lease and is not known: the answer to that claim was lost
        and picture.id <> all (coalesce(p_known, '{}'))
      -- that first, so that nothing else is taken instead; then who was met last is looked at now, and
      -- the others in turn, however often one of them changes
      order by picture.claimed_epoch is not distinct from held.lease_epoch desc,
        picture.checked_at is null desc,
        case when picture.checked_at is null then picture.run_at end desc,
        picture.run_at,
        picture.id
      limit 1
    ) as found
  )
  update whatsapp_private.profile_pictures as picture
  set claimed_epoch = candidates.lease_epoch,
    attempts = picture.attempts + (picture.claimed_epoch is distinct from candidates.lease_epoch)::integer
  from candidates
  where picture.id = candidates.id
    and picture.run_at = candidates.run_at  -- once more, against what was finished since
  returning picture.id, picture.integration_account_id, picture.workspace_id, picture.claimed_epoch,
    whatsapp_private.jid_of_picture(picture), picture.picture_id, picture.attempts
$$;
comment on function public.bridge_claim_pictures(uuid, uuid[]) is
  'Takes at most one picture of each connected account that the worker holds, except those that it knows it has: how often it is called is the pace. What an answer that got lost gave out is given out again.';

create function public.bridge_claim_picture(p_worker uuid, p_account uuid, p_epoch bigint, p_command uuid)
returns table (
  id uuid, account_id uuid, workspace_id uuid, lease_epoch bigint, jid text, picture_id text, attempts integer
)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  workspace constant uuid := whatsapp_private.fence(p_worker, p_account, p_epoch);
  chat constant text := (
    select command.chat_jid from public.commands as command
    where command.id = p_command and command.integration_account_id = p_account and command.type = 'refresh_profile'
  );
  person uuid;
  chat_of_group uuid;
begin
  -- the chat of a command may be named by either address of a person
  select lead.id into person from public.leads as lead
  where lead.workspace_id = workspace and (lead.whatsapp_wa_id = chat or lead.lid = chat);
  select conversation.id into chat_of_group from public.conversations as conversation
  where conversation.integration_account_id = p_account and conversation.chat_jid = chat and conversation.kind = 'group';
  if num_nonnulls(person, chat_of_group) = 0 then
    return;
  end if;
  insert into whatsapp_private.profile_pictures (workspace_id, integration_account_id, lead_id, conversation_id)
  values (workspace, p_account, person, chat_of_group)
  on conflict do nothing;
  return query
  update whatsapp_private.profile_pictures as known
  set claimed_epoch = p_epoch, attempts = known.attempts + (known.claimed_epoch is distinct from p_epoch)::integer
  where known.integration_account_id = p_account
    and (known.lead_id = person or known.conversation_id = chat_of_group)
  returning known.id, known.integration_account_id, known.workspace_id, known.claimed_epoch,
    whatsapp_private.jid_of_picture(known), known.picture_id, known.attempts;
end
$$;
comment on function public.bridge_claim_picture(uuid, uuid, bigint, uuid) is
  'Takes the picture that a refresh_profile is about, whenever it was asked for last; nothing if the person or group is not known. WB001 if the lease is lost.';

create function public.bridge_finish_picture(
  p_worker uuid, p_account uuid, p_epoch bigint, p_picture uuid, p_state text, p_path text, p_picture_id text,
  p_retry_in_s double precision, p_counts boolean
) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  workspace constant uuid := whatsapp_private.fence(p_worker, p_account, p_epoch);
  is_answer constant boolean := p_state in ('stored', 'unchanged', 'none', 'hidden');
  picture whatsapp_private.profile_pictures;
begin
  if p_state is null or p_state not in ('stored', 'unchanged', 'none', 'hidden', 'failed', 'pending') then
    raise exception 'A picture ends as stored, unchanged, none, hidden or failed, or stays pending.' using errcode = '22023';
  elsif p_state = 'stored' and (
    p_picture_id is null
    or not coalesce(starts_with(p_path, workspace::text || '/' || p_account::text || '/avatars/'), false)
  ) then
    raise exception 'A stored picture has an id, and a path in the folder of its account.' using errcode = '22023';
  end if;
  if p_state = 'stored' and whatsapp_private.is_picture_being_deleted(p_path) then
    -- the person had this picture before: it is stored again when its file is gone
    return public.bridge_finish_picture(
      p_worker, p_account, p_epoch, p_picture, 'pending', null, null, 900, false
    );
  end if;
  perform whatsapp_private.lock_identities(workspace, true);
  update whatsapp_private.profile_pictures as known
  set state = case p_state when 'unchanged' then 'stored' when 'pending' then known.state else p_state end,
    picture_id = case
      when p_state = 'stored' then p_picture_id when p_state in ('none', 'hidden') then null else known.picture_id
    end,
    attempts = case
      when p_state <> 'pending' then 0 else greatest(0, known.attempts - (not coalesce(p_counts, true))::integer)
    end,
    -- not all on one day again
    run_at = clock_timestamp() + case
      when p_state = 'pending' then make_interval(secs => least(greatest(coalesce(p_retry_in_s, 0), 1), 86400))
      else interval '14 days' * (0.8 + 0.4 * random())
    end,
    checked_at = case when is_answer then clock_timestamp() else known.checked_at end,
    claimed_epoch = null
  where known.id = p_picture
    and known.integration_account_id = p_account
    and known.claimed_epoch = p_epoch
  returning known.* into picture;
  if picture.id is null then
    return false;
  end if;
  if p_state not in ('stored', 'none', 'hidden') then
    return true;
  end if;
  if picture.conversation_id is not null then
    update public.conversations set avatar_url = p_path
    where id = picture.conversation_id and avatar_url is distinct from p_path;
  elsif p_path is not null or not exists (
    -- what this account may not see, another one of the workspace may
    select from whatsapp_private.profile_pictures as other
    where other.lead_id = picture.lead_id and other.id <> picture.id and other.state = 'stored'
  ) then
    update public.leads set avatar_url = p_path
    where id = picture.lead_id and avatar_url is distinct from p_path;
    -- the first messages of a person came before the picture
    update public.messages set sender_avatar_url = p_path
    where p_path is not null
      and id in (
        select message.id from public.messages as message
        where message.sender_lead_id = picture.lead_id and message.sender_avatar_url is null
        order by message.created_at desc limit 50
      );
  end if;
  return true;
end
$$;
comment on function public.bridge_finish_picture(uuid, uuid, bigint, uuid, text, text, text, double precision, boolean) is
  'A picture that was claimed is stored (p_path, p_picture_id), unchanged, none, hidden or failed, or stays pending and is tried again (p_counts false: it was not begun, that is no attempt). False if it is not being fetched under this lease (any more). WB001 if the lease is lost.';

select whatsapp_private.give_to_the_bridge(
  'public.bridge_claim_pictures(uuid, uuid[])',
  'public.bridge_claim_picture(uuid, uuid, bigint, uuid)',
  'public.bridge_finish_picture(uuid, uuid, bigint, uuid, text, text, text, double precision, boolean)'
);
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
