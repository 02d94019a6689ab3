-- One row a person, one conversation a chat, whatever address WhatsApp used when.
--
-- Lock order of everything that writes for an account: (for a history, its turn in the workspace,) its
-- session row, the identity lock of its workspace, its message counter, leads, the rest, and commands
-- before their messages. Whoever may
-- add or change a lead takes the identity lock exclusively, others share it; so leads do not change
-- under their feet. Nobody who shares it may want it exclusively later: two of them would wait in a ring.

create function whatsapp_private.lock_identities(p_workspace uuid, p_exclusively boolean) returns void
language plpgsql
set search_path = ''
as $$
declare
  key constant bigint := hashtextextended('whatsapp leads of ' || p_workspace::text, 0);
begin
  if p_exclusively then
    perform pg_advisory_xact_lock(key);
  else
    perform pg_advisory_xact_lock_shared(key);
  end if;
end
$$;
comment on function whatsapp_private.lock_identities(uuid, boolean) is
  'Until the end of the transaction: nobody else changes who is who in this workspace.';

create function whatsapp_private.rank_of_message_status(p_status text) returns integer
language sql immutable
set search_path = ''
as $$
  select case p_status when 'sent' then 1 when 'delivered' then 2 when 'read' then 3 when 'played' then 4 else 0 end
$$;
comment on function whatsapp_private.rank_of_message_status(text) is
  'Orders what a message goes through; pending and failed are lowest, so that evidence wins over both.';

-- Whoever reacted, voted or edited is one person, too, when two leads turn out to be one.

create function whatsapp_private.absorb_message(p_keep uuid, p_drop uuid) returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into public.message_receipts as receipt
    (message_id, lead_id, workspace_id, delivered_at, read_at, played_at)
  select p_keep, other.lead_id, other.workspace_id, other.delivered_at, other.read_at, other.played_at
  from public.message_receipts as other
  where other.message_id = p_drop
  on conflict (message_id, lead_id) do update set
    delivered_at = least(receipt.delivered_at, excluded.delivered_at),
    read_at = least(receipt.read_at, excluded.read_at),
    played_at = least(receipt.played_at, excluded.played_at);
  perform whatsapp_private.keep_reaction(
    p_keep, other.lead_id, other.sender_id, other.emoji, other.reacted_at
  )
  from public.message_reactions as other where other.message_id = p_drop;
  perform whatsapp_private.keep_poll_vote(
    p_keep, other.lead_id, other.sender_id, other.option_hashes, other.voted_at
  )
  from public.poll_votes as other where other.message_id = p_drop;
  perform whatsapp_private.edit_message(p_keep, other.conteudo, other.mentions, other.edited_at)
  from public.messages as other where other.id = p_drop and other.edited_at is not null;
  perform whatsapp_private.revoke_message(p_keep, other.payload ->> 'revoked_by', other.revoked_at)
  from public.messages as other where other.id = p_drop and other.revoked_at is not null;
  update public.attachments set message_id = p_keep where message_id = p_drop;
  update public.commands set message_id = p_keep where message_id = p_drop;
  -- changes that are under way go on with the row that stays
  update public.commands set target_message_id = p_keep where target_message_id = p_drop;
  update public.messages as kept
  set pending_changes = other.pending_changes || kept.pending_changes
  from public.messages as other
  where kept.id = p_keep and other.id = p_drop and other.pending_changes <> '{}';
  update public.messages as kept
  set status = other.status
  from public.messages as other
  where kept.id = p_keep
    and other.id = p_drop
    and whatsapp_private.rank_of_message_status(other.status)
      > whatsapp_private.rank_of_message_status(kept.status);
  delete from public.messages where id = p_drop;
end
$$;
comment on function whatsapp_private.absorb_message(uuid, uuid) is
  'Two rows turned out to be one message: the second gives what it has to the first and goes.';

-- As in 20260101001400, and what a history told of the second conversation is known of the first.
create function whatsapp_private.merge_conversations(p_keep uuid, p_drop uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  twin record;
  gone public.conversations;
begin
  -- before their messages, like everybody else: who cancels a command goes on to its message
  perform from public.commands as command
  where command.conversation_id = p_drop
    or (command.conversation_id = p_keep and command.status in ('pending', 'running'))
  order by command.id
  for no key update;

  for twin in
    select kept.id as kept_id, other.id as other_id,
      other.command_id is not null
        or (kept.payload @> '{"placeholder": true}' and not other.payload @> '{"placeholder": true}')
        as other_is_better
    from public.messages as other
    join public.messages as kept
      on kept.conversation_id = p_keep
      and kept.from_me = other.from_me
      and kept.whatsapp_message_id = other.whatsapp_message_id
    where other.conversation_id = p_drop
  loop
    if twin.other_is_better then
      perform whatsapp_private.absorb_message(twin.other_id, twin.kept_id);
    else
      perform whatsapp_private.absorb_message(twin.kept_id, twin.other_id);
    end if;
  end loop;
  update public.messages set conversation_id = p_keep where conversation_id = p_drop;

  -- of two running commands only one may stay in the queue of the conversation; the other is
  -- finished by its id
  update public.commands as command
  set conversation_id = case
    when command.status = 'running' and exists (
      select from public.commands as other where other.conversation_id = p_keep and other.status = 'running'
    ) then null
    else p_keep
  end
  where command.conversation_id = p_drop;

  insert into whatsapp_private.history_chats as kept (conversation_id, integration_account_id, more_on_phone)
  select p_keep, told.integration_account_id, told.more_on_phone
  from whatsapp_private.history_chats as told where told.conversation_id = p_drop
  on conflict (conversation_id) do update
  set more_on_phone = coalesce(kept.more_on_phone and excluded.more_on_phone, kept.more_on_phone, excluded.more_on_phone);

  insert into whatsapp_private.chats_on_phone (conversation_id, archived, pinned, muted_until)
  select p_keep, told.archived, told.pinned, told.muted_until
  from whatsapp_private.chats_on_phone as told where told.conversation_id = p_drop
  on conflict (conversation_id) do nothing;

  delete from public.conversations where id = p_drop returning * into gone;
  update public.conversations as kept
  set nao_lidas = kept.nao_lidas + gone.nao_lidas,
    ultima_mensagem = case
      when kept.ultima_mensagem_em is null or gone.ultima_mensagem_em > kept.ultima_mensagem_em
      then gone.ultima_mensagem else kept.ultima_mensagem
    end,
    ultima_mensagem_em = greatest(kept.ultima_mensagem_em, gone.ultima_mensagem_em),
    status = case
      when 'open' in (kept.status, gone.status) then 'open'
      when 'pending' in (kept.status, gone.status) then 'pending'
      else 'resolved'
    end,
    assigned_to = coalesce(kept.assigned_to, gone.assigned_to),
    labels = array(
      select distinct label from unnest(kept.labels || gone.labels) as label order by label limit 100
    ),
    archived = kept.archived and gone.archived,
    pinned = kept.pinned or gone.pinned,
    muted_until = greatest(kept.muted_until, gone.muted_until),
    avatar_url = coalesce(kept.avatar_url, gone.avatar_url),
    disappears_after_s = case
      when gone.disappears_since > coalesce(kept.disappears_since, '-infinity')
      then gone.disappears_after_s else kept.disappears_after_s
    end,
    disappears_since = greatest(kept.disappears_since, gone.disappears_since)
  where kept.id = p_keep;

  update whatsapp_private.merged_rows set new_id = p_keep where new_id = p_drop;
  insert into whatsapp_private.merged_rows (old_id, new_id, workspace_id)
  values (p_drop, p_keep, gone.workspace_id);
end
$$;
comment on function whatsapp_private.merge_conversations(uuid, uuid) is
  'Two conversations turned out to be one chat: messages, commands and the ticket of the second go to the first.';

create function whatsapp_private.readdress_conversations(p_lead uuid) returns void
language sql
set search_path = ''
as $$
  update public.conversations as conversation
  set chat_jid = coalesce(lead.whatsapp_wa_id, lead.lid)
  from public.leads as lead
  where lead.id = p_lead
    and conversation.lead_id = p_lead
    and conversation.chat_jid <> coalesce(lead.whatsapp_wa_id, lead.lid)
$$;
comment on function whatsapp_private.readdress_conversations(uuid) is
  'The address of a direct chat is the phone JID of its person when known, else the LID.';

create function whatsapp_private.merge_leads(p_keep uuid, p_drop uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  pair record;
  polls uuid[];
  gone public.leads;
begin
  update whatsapp_private.old_pictures set lead_id = p_keep where lead_id = p_drop;
  for pair in
    select other.id as other_id, kept.id as kept_id, kept.created_at <= other.created_at as kept_is_older
    from public.conversations as other
    left join public.conversations as kept
      on kept.integration_account_id = other.integration_account_id and kept.lead_id = p_keep
    where other.lead_id = p_drop
  loop
    if pair.kept_id is null then
      update public.conversations set lead_id = p_keep where id = pair.other_id;
    elsif pair.kept_is_older then
      perform whatsapp_private.merge_conversations(pair.kept_id, pair.other_id);
    else
      perform whatsapp_private.merge_conversations(pair.other_id, pair.kept_id);
      update public.conversations set lead_id = p_keep where id = pair.other_id;
    end if;
  end loop;

  update public.messages set sender_lead_id = p_keep where sender_lead_id = p_drop;
  insert into public.message_receipts as receipt
    (message_id, lead_id, workspace_id, delivered_at, read_at, played_at)
  select other.message_id, p_keep, other.workspace_id, other.delivered_at, other.read_at, other.played_at
  from public.message_receipts as other
  where other.lead_id = p_drop
  on conflict (message_id, lead_id) do update set
    delivered_at = least(receipt.delivered_at, excluded.delivered_at),
    read_at = least(receipt.read_at, excluded.read_at),
    played_at = least(receipt.played_at, excluded.played_at);
  delete from public.message_receipts where lead_id = p_drop;

  update whatsapp_private.early_receipts set peer_lead_id = p_keep where peer_lead_id = p_drop;
  delete from whatsapp_private.early_receipts as other
  using whatsapp_private.early_receipts as kept
  where other.reader_lead_id = p_drop
    and kept.reader_lead_id = p_keep
    and kept.integration_account_id = other.integration_account_id
    and kept.whatsapp_message_id = other.whatsapp_message_id
    and kept.type = other.type
    and kept.chat_jid = other.chat_jid;
  update whatsapp_private.early_receipts set reader_lead_id = p_keep where reader_lead_id = p_drop;

  perform whatsapp_private.keep_reaction(
    other.message_id, p_keep, other.sender_id, other.emoji, other.reacted_at
  )
  from public.message_reactions as other where other.lead_id = p_drop;
  delete from public.message_reactions where lead_id = p_drop;
  polls := array(select message_id from public.poll_votes where lead_id = p_drop);
  perform whatsapp_private.keep_poll_vote(
    other.message_id, p_keep, other.sender_id, other.option_hashes, other.voted_at
  )
  from public.poll_votes as other where other.lead_id = p_drop;
  delete from public.poll_votes where lead_id = p_drop;
  perform whatsapp_private.count_poll_votes(poll) from unnest(polls) as poll;

  update whatsapp_private.early_changes set peer_lead_id = p_keep where peer_lead_id = p_drop;
  delete from whatsapp_private.early_changes as other
  using whatsapp_private.early_changes as kept
  where other.sender_lead_id = p_drop
    and kept.sender_lead_id = p_keep
    and kept.integration_account_id = other.integration_account_id
    and kept.whatsapp_message_id = other.whatsapp_message_id
    and kept.kind = other.kind
    and kept.chat_jid = other.chat_jid
    and kept.from_me = other.from_me
    and kept.happened_at = other.happened_at
    and kept.details = other.details;
  update whatsapp_private.early_changes set sender_lead_id = p_keep where sender_lead_id = p_drop;
  -- a change that waited because its sender was taken for somebody else takes effect now
  perform whatsapp_private.apply_early_changes(message.id)
  from whatsapp_private.early_changes as early
  join public.messages as message
    on message.integration_account_id = early.integration_account_id
    and message.whatsapp_message_id = early.whatsapp_message_id
  where p_keep in (early.peer_lead_id, early.sender_lead_id);

  delete from public.leads where id = p_drop returning * into gone;
  perform whatsapp_private.retire_picture(gone.avatar_url, p_keep);
  -- of the names, one that a member gave wins over one that WhatsApp told
  update public.leads as kept
  set nome = case
      when kept.nome is null or (kept.nome = kept.push_name and gone.nome is distinct from gone.push_name)
      then coalesce(gone.nome, kept.nome) else kept.nome
    end,
    push_name = coalesce(kept.push_name, gone.push_name),
    business_name = coalesce(kept.business_name, gone.business_name),
    avatar_url = coalesce(kept.avatar_url, gone.avatar_url),
    opted_out_at = least(kept.opted_out_at, gone.opted_out_at)
  where kept.id = p_keep;

  update whatsapp_private.merged_rows set new_id = p_keep where new_id = p_drop;
  insert into whatsapp_private.merged_rows (old_id, new_id, workspace_id)
  values (p_drop, p_keep, gone.workspace_id);
end
$$;
comment on function whatsapp_private.merge_leads(uuid, uuid) is
  'Two leads turned out to be one person: everything that refers to the second refers to the first from now on.';

create function whatsapp_private.other_spelling(p_phone_jid text) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when p_phone_jid ~ '^55[1-9][0-9]9[6-9][0-9]{7}@s\.whatsapp\.net$' then overlay(p_phone_jid placing '' from 5 for 1)
    when p_phone_jid ~ '^55[1-9][0-9][6-9][0-9]{7}@s\.whatsapp\.net$' then overlay(p_phone_jid placing '9' from 5 for 0)
  end
$$;
comment on function whatsapp_private.other_spelling(text) is
  'Brazilian mobiles got a ninth digit, and WhatsApp keeps many numbers without it: the same number, written the other way; null for all others.';

create function whatsapp_private.known_spelling(p_workspace uuid, p_phone_jid text) returns text
language sql stable
set search_path = ''
as $$
  select coalesce(
    (
      select lead.whatsapp_wa_id from public.leads as lead
      where lead.workspace_id = p_workspace
        and lead.whatsapp_wa_id in (p_phone_jid, whatsapp_private.other_spelling(p_phone_jid))
      order by lead.whatsapp_wa_id = p_phone_jid desc
      limit 1
    ),
    p_phone_jid
  )
$$;
comment on function whatsapp_private.known_spelling(uuid, text) is
  'A number that a person wrote, as the lead has it that is known under its other spelling; else as it was written.';

create function whatsapp_private.keep_lead(p_workspace uuid, p_phone_jid text, p_lid text, p_push_name text)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  new_name constant text := left(nullif(btrim(p_push_name), ''), 200);
  by_phone public.leads;
  by_lid public.leads;
  kept uuid;
begin
  -- nearly always the person is known and nothing is new
  if p_phone_jid is not null then
    select lead.id into kept from public.leads as lead
    where lead.workspace_id = p_workspace and lead.whatsapp_wa_id = p_phone_jid
      and (p_lid is null or lead.lid = p_lid)
      and (new_name is null or lead.push_name = new_name);
  else
    select lead.id into kept from public.leads as lead
    where lead.workspace_id = p_workspace and lead.lid = p_lid
      and (new_name is null or lead.push_name = new_name);
  end if;
  if kept is not null then
    return kept;
  end if;

  if p_phone_jid is null and p_lid is null then
    raise exception 'A person needs a phone_jid or a lid.' using errcode = '22023';
  end if;
  if p_phone_jid !~ '^[^@\s]+@s\.whatsapp\.net$' then
    raise exception 'The phone_jid of a person must end with @s.whatsapp.net.' using errcode = '22023';
  end if;
  if p_lid !~ '^[^@\s]+@lid$' then
    raise exception 'The lid of a person must end with @lid.' using errcode = '22023';
  end if;

  select * into by_phone from public.leads as lead
  where lead.workspace_id = p_workspace and lead.whatsapp_wa_id = p_phone_jid for update;
  if by_phone.id is null then  -- WhatsApp spells the number in another way than who wrote it here
    select * into by_phone from public.leads as lead
    where lead.workspace_id = p_workspace
      and lead.whatsapp_wa_id = whatsapp_private.other_spelling(p_phone_jid)
      and (p_lid is null or lead.lid is null or lead.lid = p_lid)
    for update;
  end if;
  select * into by_lid from public.leads as lead
  where lead.workspace_id = p_workspace and lead.lid = p_lid for update;

  if by_phone.id is null and by_lid.id is null then
    insert into public.leads (workspace_id, whatsapp_wa_id, lid, telefone, nome, push_name)
    values (
      p_workspace, p_phone_jid, p_lid,
      case when p_phone_jid ~ '^[0-9]+@' then split_part(p_phone_jid, '@', 1) end,
      new_name, new_name
    )
    on conflict do nothing
    returning id into kept;
    if kept is null then  -- somebody else was faster; now it is there
      return whatsapp_private.keep_lead(p_workspace, p_phone_jid, p_lid, p_push_name);
    end if;
    return kept;
  end if;

  if by_phone.id <> by_lid.id then
    if by_phone.lid is not null and by_lid.whatsapp_wa_id is not null then
      -- two complete persons: the number changed hands and belongs to the second one now
      update public.leads set whatsapp_wa_id = null, telefone = null where id = by_phone.id;
      perform whatsapp_private.readdress_conversations(by_phone.id);
      kept := by_lid.id;
    elsif by_phone.created_at <= by_lid.created_at then
      perform whatsapp_private.merge_leads(by_phone.id, by_lid.id);
      kept := by_phone.id;
    else
      perform whatsapp_private.merge_leads(by_lid.id, by_phone.id);
      kept := by_lid.id;
    end if;
  else
    kept := coalesce(by_phone.id, by_lid.id);
  end if;

  -- the latest mapping that WhatsApp told is the right one; a name that a member gave stays
  update public.leads as lead
  set whatsapp_wa_id = coalesce(p_phone_jid, lead.whatsapp_wa_id),
    telefone = case
      when p_phone_jid is null then lead.telefone
      when p_phone_jid ~ '^[0-9]+@' then split_part(p_phone_jid, '@', 1)
    end,
    lid = coalesce(p_lid, lead.lid),
    nome = case
      when new_name is not null and (lead.nome is null or lead.nome = lead.push_name) then new_name
      else lead.nome
    end,
    push_name = coalesce(new_name, lead.push_name)
  where lead.id = kept;
  perform whatsapp_private.readdress_conversations(kept);
  return kept;
end
$$;
comment on function whatsapp_private.keep_lead(uuid, text, text, text) is
  'The lead of a person known by phone JID, LID or both: found, made, completed with what is new, or merged out of two.';

create function whatsapp_private.keep_person(p_workspace uuid, p_person jsonb) returns uuid
language sql
set search_path = ''
as $$
  select whatsapp_private.keep_lead(
    p_workspace, p_person ->> 'phone_jid', p_person ->> 'lid', p_person ->> 'push_name'
  )
$$;
comment on function whatsapp_private.keep_person(uuid, jsonb) is
  'keep_lead for a person as events name it: {phone_jid, lid, push_name}.';

create function whatsapp_private.keep_direct_conversation(p_account uuid, p_workspace uuid, p_lead uuid)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  kept uuid;
begin
  select conversation.id into kept from public.conversations as conversation
  where conversation.integration_account_id = p_account and conversation.lead_id = p_lead;
  if kept is null then
    insert into public.conversations
      (workspace_id, integration_account_id, lead_id, chat_jid, kind, nome)
    select p_workspace, p_account, lead.id, coalesce(lead.whatsapp_wa_id, lead.lid), 'direct',
      whatsapp_private.display_name(lead.nome, lead.push_name, lead.business_name, lead.telefone)
    from public.leads as lead
    where lead.id = p_lead
    returning id into kept;
  end if;
  return kept;
end
$$;
comment on function whatsapp_private.keep_direct_conversation(uuid, uuid, uuid) is
  'The conversation of an account with a person, made if there is none.';

create function whatsapp_private.keep_chat(p_account uuid, p_workspace uuid, p_chat_jid text, p_kind text)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  kept uuid;
begin
  select conversation.id into kept from public.conversations as conversation
  where conversation.integration_account_id = p_account and conversation.chat_jid = p_chat_jid;
  if kept is null then
    insert into public.conversations (workspace_id, integration_account_id, chat_jid, kind)
    values (p_workspace, p_account, p_chat_jid, p_kind)
    returning id into kept;
  end if;
  return kept;
end
$$;
comment on function whatsapp_private.keep_chat(uuid, uuid, text, text) is
  'The conversation of an account with a group, channel, list or status feed, made if there is none.';

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
