-- Edits, revokes, reactions and votes: applied to their message, or kept until it comes.

create table whatsapp_private.early_changes (
  id uuid primary key default gen_random_uuid(),
  integration_account_id uuid not null references public.integration_accounts (id) on delete cascade,
  whatsapp_message_id text not null,
  kind text not null
    constraint early_changes_kind_is_known check (kind in ('edit', 'revoke', 'reaction', 'poll_vote', 'pin')),
  chat_jid text not null,
  peer_lead_id uuid references public.leads (id) on delete cascade,
  from_me boolean not null,
  sender_lead_id uuid references public.leads (id) on delete cascade,
  sender_id text,
  target_from_me boolean,
  details jsonb not null,
  happened_at timestamptz not null,
  created_at timestamptz not null default now()
);
create unique index early_changes_are_kept_once on whatsapp_private.early_changes (
  integration_account_id, whatsapp_message_id, kind, chat_jid, from_me, sender_lead_id, happened_at, md5(details::text)
) nulls not distinct;
create index early_changes_by_peer_lead on whatsapp_private.early_changes (peer_lead_id);
create index early_changes_by_sender_lead on whatsapp_private.early_changes (sender_lead_id);
create index early_changes_by_age on whatsapp_private.early_changes (created_at);
comment on table whatsapp_private.early_changes is
  'Changes whose message is not here yet, or cannot be read yet. Applied when it comes; forgotten after the days of limits.events_kept_days.';
comment on column whatsapp_private.early_changes.id is 'Identifier.';
comment on column whatsapp_private.early_changes.integration_account_id is 'The account.';
comment on column whatsapp_private.early_changes.whatsapp_message_id is 'The message that is changed, as WhatsApp calls it.';
comment on column whatsapp_private.early_changes.kind is 'edit, revoke, reaction, poll_vote or pin.';
comment on column whatsapp_private.early_changes.chat_jid is 'The chat, as the change named it.';
comment on column whatsapp_private.early_changes.peer_lead_id is 'The person, in a direct chat.';
comment on column whatsapp_private.early_changes.from_me is 'Made by the account itself.';
comment on column whatsapp_private.early_changes.sender_lead_id is 'Who made it; null: the account itself, or a channel.';
comment on column whatsapp_private.early_changes.sender_id is 'JID of who made it.';
comment on column whatsapp_private.early_changes.target_from_me is 'Whether the message is the account''s own; null: not told.';
comment on column whatsapp_private.early_changes.details is 'What is particular to its kind.';
comment on column whatsapp_private.early_changes.happened_at is 'When it was made.';
comment on column whatsapp_private.early_changes.created_at is 'When the row was inserted.';
revoke all on whatsapp_private.early_changes from public, anon, authenticated, service_role;
grant select, insert, update, delete on whatsapp_private.early_changes to service_role;

create function whatsapp_private.refresh_preview(p_message uuid) returns void
language sql
set search_path = ''
as $$
  update public.conversations as conversation
  set ultima_mensagem = case
    when message.revoked_at is not null then '🚫'
    else whatsapp_private.preview_of(message.tipo, message.conteudo)
  end
  from public.messages as message
  where message.id = p_message
    and conversation.id = message.conversation_id
    and conversation.ultima_mensagem_em = message.sent_at
    and message.tipo not in ('reaction', 'system')
$$;
comment on function whatsapp_private.refresh_preview(uuid) is
  'A message changed: if it is the latest one, the list of conversations shows the change.';

create function whatsapp_private.edit_message(p_message uuid, p_conteudo text, p_mentions text[], p_at timestamptz)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  update public.messages as message
  set conteudo = p_conteudo, mentions = coalesce(p_mentions, '{}'), edited_at = p_at
  where message.id = p_message
    and (
      message.edited_at is null
      or (p_at, p_conteudo collate "C") > (message.edited_at, coalesce(message.conteudo, '') collate "C")
    );
  if not found then
    return false;
  end if;
  perform whatsapp_private.refresh_preview(p_message);
  return true;
end
$$;
comment on function whatsapp_private.edit_message(uuid, text, text[], timestamptz) is
  'A message has a new text (or caption); the latest edit wins. False if nothing changed.';

create function whatsapp_private.revoke_message(p_message uuid, p_by text, p_at timestamptz) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  update public.messages as message
  set revoked_at = p_at,
    payload = message.payload || jsonb_build_object('revoked_by', p_by)
  where message.id = p_message
    and (
      message.revoked_at is null
      or (p_at, coalesce(p_by, '') collate "C")
        < (message.revoked_at, coalesce(message.payload ->> 'revoked_by', '') collate "C")
    );
  if not found then
    return false;
  end if;
  perform whatsapp_private.refresh_preview(p_message);
  return true;
end
$$;
comment on function whatsapp_private.revoke_message(uuid, text, timestamptz) is
  'A message was deleted for everyone; the row keeps its content, payload.revoked_by says who did it. False if nothing changed.';

create function whatsapp_private.pin_message(p_message uuid, p_on boolean, p_at timestamptz) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  update public.messages as message
  set payload = message.payload || jsonb_build_object('pinned', jsonb_build_object('on', p_on, 'at', p_at))
  where message.id = p_message
    and coalesce((p_at, p_on) > (
      (message.payload #>> '{pinned,at}')::timestamptz, (message.payload #>> '{pinned,on}')::boolean
    ), true);
  return found;
end
$$;
comment on function whatsapp_private.pin_message(uuid, boolean, timestamptz) is
  'A message was pinned in its chat, or is no longer: payload.pinned = {on, at}; the latest word wins. False if nothing changed.';

create function whatsapp_private.apply_early_changes(p_message uuid) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  message public.messages;
  conversation public.conversations;
  change whatsapp_private.early_changes;
  changed boolean := false;
  this_one boolean;
begin
  select * into message from public.messages where id = p_message;
  if not exists (
    select from whatsapp_private.early_changes as early
    where early.integration_account_id = message.integration_account_id
      and early.whatsapp_message_id = message.whatsapp_message_id
  ) then
    return false;
  end if;
  select * into conversation from public.conversations where id = message.conversation_id;
  for change in
    delete from whatsapp_private.early_changes as early
    where early.integration_account_id = message.integration_account_id
      and early.whatsapp_message_id = message.whatsapp_message_id
      and (
        early.chat_jid in (conversation.chat_jid, message.chat_jid)
        or early.peer_lead_id = conversation.lead_id
      )
      and (early.target_from_me is null or early.target_from_me = message.from_me)
      and case early.kind
        when 'reaction' then true
        when 'pin' then true
        when 'poll_vote' then message.tipo = 'poll'
        else
          -- nobody changes what somebody else wrote, but admins of a group delete it
          (early.from_me = message.from_me and early.sender_lead_id is not distinct from message.sender_lead_id)
          or (early.kind = 'revoke' and conversation.kind = 'group' and (early.details ->> 'by_admin')::boolean)
      end
      -- a text that cannot be read yet would replace the edited one
      and (early.kind <> 'edit' or not message.payload @> '{"placeholder": true}')
    returning early.*
  loop
    this_one := false;
    case change.kind
      when 'edit' then
        this_one := whatsapp_private.edit_message(
          p_message, change.details ->> 'conteudo',
          array(select jsonb_array_elements_text(change.details -> 'mentions')), change.happened_at
        );
      when 'revoke' then
        this_one := whatsapp_private.revoke_message(p_message, change.sender_id, change.happened_at);
      when 'pin' then
        this_one := whatsapp_private.pin_message(
          p_message, (change.details ->> 'on')::boolean, change.happened_at
        );
      when 'reaction' then
        perform whatsapp_private.keep_reaction(
          p_message, change.sender_lead_id, change.sender_id, change.details ->> 'emoji', change.happened_at
        );
      else
        this_one := whatsapp_private.keep_poll_vote(
          p_message, change.sender_lead_id, change.sender_id,
          array(select jsonb_array_elements_text(change.details -> 'options')), change.happened_at
        );
    end case;
    changed := changed or this_one;  -- not with the call in one expression: it might be left out
  end loop;
  return changed;
end
$$;
comment on function whatsapp_private.apply_early_changes(uuid) is
  'Changes that wait for this message take effect. True if its row changed.';

create function whatsapp_private.record_change(
  p_account uuid, p_workspace uuid, p_event jsonb, inout p_seq bigint, out p_changed boolean
)
language plpgsql
set search_path = ''
as $$
declare
  change_kind constant text := p_event ->> 'kind';
  is_mine constant boolean := (p_event ->> 'from_me')::boolean;
  chat constant text := p_event #>> '{chat,jid}';
  target_id constant text := p_event ->> 'target_id';
  changed_at constant timestamptz := (p_event ->> 'at')::timestamptz;
  sender constant jsonb := p_event -> 'sender';
  peer constant jsonb := whatsapp_private.peer_of(p_event);
  has_sender constant boolean := coalesce(sender ->> 'phone_jid', sender ->> 'lid') is not null;
  kept_details constant jsonb := case change_kind
    when 'edit' then jsonb_build_object('conteudo', p_event -> 'conteudo', 'mentions', coalesce(p_event -> 'mentions', '[]'))
    when 'revoke' then jsonb_build_object('by_admin', coalesce((p_event ->> 'by_admin')::boolean, false))
    when 'reaction' then jsonb_build_object('emoji', p_event -> 'emoji')
    when 'pin' then jsonb_build_object('on', coalesce((p_event ->> 'on')::boolean, false))
    else jsonb_build_object('options', coalesce(p_event -> 'options', '[]'))
  end;
  peer_lead uuid;
  sender_lead uuid;
  conversation uuid;
  target uuid;
begin
  p_changed := false;
  if is_mine is null or chat is null or target_id is null or changed_at is null
    or jsonb_typeof(sender) is distinct from 'object'
    or (change_kind = 'edit' and p_event ->> 'conteudo' is null)
  then
    raise exception 'chat, sender, from_me, target_id, at or conteudo is missing.' using errcode = '22023';
  end if;
  if peer is not null then
    if not is_mine and (peer ->> 'phone_jid' = sender ->> 'phone_jid' or peer ->> 'lid' = sender ->> 'lid') then
      peer_lead := whatsapp_private.keep_person(p_workspace, peer || jsonb_strip_nulls(sender));
    else
      peer_lead := whatsapp_private.keep_person(p_workspace, peer);
    end if;
  end if;
  if not is_mine then
    if peer_lead is not null and (peer ->> 'phone_jid' = sender ->> 'phone_jid' or peer ->> 'lid' = sender ->> 'lid') then
      sender_lead := peer_lead;
    elsif has_sender then
      sender_lead := whatsapp_private.keep_person(p_workspace, sender);
    end if;
  end if;

  select kept.id into conversation from public.conversations as kept
  where kept.integration_account_id = p_account
    and case when peer_lead is not null then kept.lead_id = peer_lead else kept.chat_jid = chat end;

  -- until it was decrypted it was taken for a message
  delete from public.messages as message
  where message.conversation_id = conversation
    and message.from_me = is_mine
    and message.whatsapp_message_id = p_event ->> 'whatsapp_message_id'
    and message.tipo = 'unsupported'
    and message.payload @> '{"placeholder": true}';
  if found and not is_mine then
    update public.conversations set nao_lidas = greatest(0, nao_lidas - 1) where id = conversation;
  end if;

  insert into whatsapp_private.early_changes (
    integration_account_id, whatsapp_message_id, kind, chat_jid, peer_lead_id, from_me, sender_lead_id,
    sender_id, target_from_me, details, happened_at
  )
  values (
    p_account, target_id, change_kind, chat, peer_lead, is_mine, sender_lead,
    coalesce(sender ->> 'phone_jid', sender ->> 'lid'), (p_event ->> 'target_from_me')::boolean,
    kept_details, changed_at
  )
  on conflict do nothing;
  if conversation is null then
    return;
  end if;

  for target in
    select message.id from public.messages as message
    where message.conversation_id = conversation and message.whatsapp_message_id = target_id
    order by message.seq
  loop
    if whatsapp_private.apply_early_changes(target) then
      -- so that whoever catches up by seq gets the change
      update public.messages set seq = p_seq where id = target;
      p_seq := p_seq + 1;
      p_changed := true;
    end if;
  end loop;
end
$$;
comment on function whatsapp_private.record_change(uuid, uuid, jsonb, bigint) is
  'An edit, revoke, reaction, vote or pin takes effect on its message, or is kept until that comes. p_seq is the next free number, and comes back so.';
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
