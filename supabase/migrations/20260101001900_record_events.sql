create function whatsapp_private.preview_of(p_tipo text, p_conteudo text) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when p_tipo = 'text' then left(coalesce(nullif(p_conteudo, ''), '[text]'), 200)
    when p_tipo in ('reaction', 'system', 'unsupported')
    then left(coalesce(nullif(p_conteudo, ''), '[' || p_tipo || ']'), 200)
    else left(
      concat_ws(
        ' ',
        case p_tipo
          when 'image' then '📷' when 'video' then '🎬' when 'audio' then '🎤' when 'document' then '📄'
          when 'sticker' then '🏷️' when 'location' then '📍' when 'contact' then '👤' when 'poll' then '📊'
          when 'call' then '📞' else '[' || p_tipo || ']'
        end,
        nullif(p_conteudo, '')
      ),
      200
    )
  end
$$;
comment on function whatsapp_private.preview_of(text, text) is
  'What a list of conversations shows of a message.';

create function whatsapp_private.add_receipts(
  p_messages uuid[], p_workspace uuid, p_lead uuid, p_type text, p_at timestamptz
) returns void
language plpgsql
set search_path = ''
as $$
begin
  if p_lead is not null then
    insert into public.message_receipts as receipt
      (message_id, lead_id, workspace_id, delivered_at, read_at, played_at)
    select message_id, p_lead, p_workspace,
      case p_type when 'delivered' then p_at end,
      case p_type when 'read' then p_at end,
      case p_type when 'played' then p_at end
    from unnest(p_messages) as message_id
    on conflict (message_id, lead_id) do update set
      delivered_at = least(receipt.delivered_at, excluded.delivered_at),
      read_at = least(receipt.read_at, excluded.read_at),
      played_at = least(receipt.played_at, excluded.played_at)
    where (receipt.delivered_at, receipt.read_at, receipt.played_at) is distinct from (
      least(receipt.delivered_at, excluded.delivered_at),
      least(receipt.read_at, excluded.read_at),
      least(receipt.played_at, excluded.played_at)
    );
  end if;
  update public.messages
  set status = p_type, error_code = null
  where id = any (p_messages)
    and whatsapp_private.rank_of_message_status(status) < whatsapp_private.rank_of_message_status(p_type);
end
$$;
comment on function whatsapp_private.add_receipts(uuid[], uuid, uuid, text, timestamptz) is
  'Own messages were delivered to, read or played by a person: notes who and when (the earliest), and raises their status.';

-- Every kind of message becomes a row; the same batch again changes nothing.

create function whatsapp_private.mark_read_until(p_conversation uuid, p_sent_at timestamptz, p_seq bigint)
returns void
language sql
set search_path = ''
as $$
  update public.conversations as conversation
  set nao_lidas = remaining.count
  from (
    select count(*)::integer as count from public.messages as message
    where message.conversation_id = p_conversation
      and not message.from_me
      and message.tipo not in ('reaction', 'system', 'call')
      and (message.sent_at, message.seq) > (p_sent_at, p_seq)
  ) as remaining
  where conversation.id = p_conversation
    and conversation.nao_lidas > remaining.count  -- an old receipt makes nothing unread again
$$;
comment on function whatsapp_private.mark_read_until(uuid, timestamptz, bigint) is
  'The account itself read this far: only later incoming messages count as unread.';

create function whatsapp_private.apply_early_receipts(p_message uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  message public.messages;
  conversation public.conversations;
  receipt whatsapp_private.early_receipts;
begin
  perform whatsapp_private.apply_early_changes(p_message);
  select * into message from public.messages where id = p_message;
  if not exists (
    select from whatsapp_private.early_receipts as early
    where early.integration_account_id = message.integration_account_id
      and early.whatsapp_message_id = message.whatsapp_message_id
  ) then
    return;
  end if;
  select * into conversation from public.conversations where id = message.conversation_id;
  for receipt in
    delete from whatsapp_private.early_receipts as early
    where early.integration_account_id = message.integration_account_id
      and early.whatsapp_message_id = message.whatsapp_message_id
      and (early.type = 'read_self') <> message.from_me
      and (
        early.chat_jid in (conversation.chat_jid, message.chat_jid)
        or early.peer_lead_id = conversation.lead_id
      )
    returning early.*
  loop
    if receipt.type = 'read_self' then
      perform whatsapp_private.mark_read_until(message.conversation_id, message.sent_at, message.seq);
    else
      perform whatsapp_private.add_receipts(
        array[message.id], message.workspace_id, receipt.reader_lead_id, receipt.type, receipt.happened_at
      );
    end if;
  end loop;
end
$$;
comment on function whatsapp_private.apply_early_receipts(uuid) is
  'Receipts, edits, revokes, reactions and votes that came before this message take effect.';

create function whatsapp_private.peer_of(p_event jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select case
    when p_event #>> '{chat,kind}' is distinct from 'direct' then null
    when jsonb_typeof(p_event -> 'peer') = 'object' then p_event -> 'peer'
    when p_event #>> '{chat,jid}' like '%@lid' then jsonb_build_object('lid', p_event #> '{chat,jid}')
    else jsonb_build_object('phone_jid', p_event #> '{chat,jid}')
  end
$$;
comment on function whatsapp_private.peer_of(jsonb) is
  'The other person of a direct chat: as the event says, or by the address of the chat.';

create function whatsapp_private.people_of(p_event jsonb) returns setof jsonb
language sql immutable
set search_path = ''
rows 2
as $$
  select person
  from (
    values
      (whatsapp_private.peer_of(p_event)),
      (
        case
          when p_event ->> 'kind' in ('message', 'edit', 'revoke', 'reaction', 'poll_vote', 'pin', 'call', 'system')
            and not (p_event ->> 'from_me')::boolean
          then p_event -> 'sender'
        end
      ),
      (case when p_event ->> 'kind' = 'receipt' and p_event ->> 'type' <> 'read_self' then p_event -> 'reader' end),
      (case when p_event ->> 'kind' = 'person' then p_event -> 'person' end)
  ) as named (person)
  where jsonb_typeof(person) = 'object'
    and coalesce(person ->> 'phone_jid', person ->> 'lid') is not null  -- channels name nobody
$$;
comment on function whatsapp_private.people_of(jsonb) is 'Everybody an event speaks of, without oneself.';

create function whatsapp_private.tells_of_new_people(p_workspace uuid, p_events jsonb) returns boolean
language sql stable
set search_path = ''
as $$
  select exists (
    select
    from jsonb_array_elements(p_events) as event
    cross join lateral whatsapp_private.people_of(event) as person
    where case
      when person ->> 'phone_jid' is not null then not exists (
        select from public.leads as lead
        where lead.workspace_id = p_workspace
          and lead.whatsapp_wa_id = person ->> 'phone_jid'
          and (person ->> 'lid' is null or lead.lid = person ->> 'lid')
          and (nullif(btrim(person ->> 'push_name'), '') is null or lead.push_name = left(btrim(person ->> 'push_name'), 200))
          and (person ->> 'business_name' is null or lead.business_name = left(person ->> 'business_name', 200))
      )
      else not exists (
        select from public.leads as lead
        where lead.workspace_id = p_workspace
          and lead.lid = person ->> 'lid'
          and (nullif(btrim(person ->> 'push_name'), '') is null or lead.push_name = left(btrim(person ->> 'push_name'), 200))
          and (person ->> 'business_name' is null or lead.business_name = left(person ->> 'business_name', 200))
      )
    end
  )
$$;
comment on function whatsapp_private.tells_of_new_people(uuid, jsonb) is
  'Whether recording this batch adds or changes a lead, so that it has to lock identities exclusively.';

create function whatsapp_private.record_message(
  p_account uuid, p_workspace uuid, p_event jsonb,
  inout p_seq bigint, out p_changed boolean
)
language plpgsql
set search_path = ''
as $$
declare
  is_mine constant boolean := (p_event ->> 'from_me')::boolean;
  chat_jid constant text := p_event #>> '{chat,jid}';
  chat_kind constant text := p_event #>> '{chat,kind}';
  sender constant jsonb := p_event -> 'sender';
  is_placeholder constant boolean := coalesce((p_event ->> 'placeholder')::boolean, false);
  message_tipo constant text := case when is_placeholder then 'unsupported' else p_event ->> 'tipo' end;
  message_sent_at constant timestamptz := (p_event ->> 'sent_at')::timestamptz;
  counts boolean;
  peer jsonb;
  sender_lead uuid;
  peer_lead uuid;
  conversation uuid;
  recorded uuid;
begin
  p_changed := false;
  if is_mine is null or chat_jid is null or p_event ->> 'whatsapp_message_id' is null or message_sent_at is null
    or jsonb_typeof(sender) is distinct from 'object'
  then
    raise exception 'chat, sender, from_me, whatsapp_message_id or sent_at is missing.' using errcode = '22023';
  end if;

  if is_mine then
    perform whatsapp_private.heed_evidence(
      p_account, p_workspace, array[p_event ->> 'whatsapp_message_id'], message_sent_at
    );
  end if;
  peer := whatsapp_private.peer_of(p_event);
  if not is_mine then
    if peer is not null and (peer ->> 'phone_jid' = sender ->> 'phone_jid' or peer ->> 'lid' = sender ->> 'lid') then
      peer := peer || jsonb_strip_nulls(sender);
      sender_lead := whatsapp_private.keep_person(p_workspace, peer);
      peer_lead := sender_lead;
    elsif coalesce(sender ->> 'phone_jid', sender ->> 'lid') is not null or chat_kind <> 'newsletter' then
      sender_lead := whatsapp_private.keep_person(p_workspace, sender);
    end if;
  end if;
  if chat_kind = 'direct' then
    if peer_lead is null then
      peer_lead := whatsapp_private.keep_person(p_workspace, peer);
    end if;
    conversation := whatsapp_private.keep_direct_conversation(p_account, p_workspace, peer_lead);
  else
    conversation := whatsapp_private.keep_chat(p_account, p_workspace, chat_jid, chat_kind);
  end if;

  insert into public.messages (
    workspace_id, integration_account_id, conversation_id, whatsapp_message_id, from_me, chat_jid,
    sender_id, sender_lead_id, sender_nome, tipo, conteudo, quoted_message_id, mentions, payload,
    status, sent_at, seq
  )
  values (
    p_workspace, p_account, conversation, p_event ->> 'whatsapp_message_id', is_mine, chat_jid,
    coalesce(p_event ->> 'sender_jid', sender ->> 'phone_jid', sender ->> 'lid', chat_jid), sender_lead,
    coalesce(
      nullif(btrim(sender ->> 'push_name'), ''),
      (select coalesce(lead.push_name, lead.business_name, lead.nome) from public.leads as lead where lead.id = sender_lead)
    ),
    message_tipo,
    case when not is_placeholder then p_event ->> 'conteudo' end,
    p_event ->> 'quoted_whatsapp_message_id',
    array(select jsonb_array_elements_text(coalesce(nullif(p_event -> 'mentions', 'null'), '[]'))),
    coalesce(nullif(p_event -> 'payload', 'null'), '{}')
      || case when is_placeholder then '{"placeholder": true}'::jsonb else '{}' end,
    case when is_mine then 'sent' else 'delivered' end,
    message_sent_at,
    p_seq
  )
  on conflict (conversation_id, from_me, whatsapp_message_id) do nothing
  returning id into recorded;

  if recorded is not null then
    counts := message_tipo not in ('reaction', 'system');
    if jsonb_typeof(p_event -> 'attachment') = 'object' and not is_placeholder then
      perform whatsapp_private.keep_attachment(recorded, p_account, p_workspace, p_event -> 'attachment');
    end if;
    update public.conversations as kept
    set ultima_mensagem = case
        when counts and (kept.ultima_mensagem_em is null or kept.ultima_mensagem_em <= message_sent_at)
        then whatsapp_private.preview_of(message_tipo, p_event ->> 'conteudo')
        else kept.ultima_mensagem
      end,
      ultima_mensagem_em = case
        when counts then greatest(kept.ultima_mensagem_em, message_sent_at) else kept.ultima_mensagem_em
      end,
      nao_lidas = kept.nao_lidas + (counts and not is_mine and message_tipo <> 'call')::integer,
      status = case when counts and not is_mine and kept.kind in ('direct', 'group') then 'open' else kept.status end
    where kept.id = conversation;
    p_seq := p_seq + 1;
    p_changed := true;
    perform whatsapp_private.apply_early_receipts(recorded);

  elsif not is_placeholder then
    update public.messages as message
    set tipo = message_tipo,
      conteudo = p_event ->> 'conteudo',
      quoted_message_id = p_event ->> 'quoted_whatsapp_message_id',
      mentions = array(select jsonb_array_elements_text(coalesce(nullif(p_event -> 'mentions', 'null'), '[]'))),
      payload = coalesce(nullif(p_event -> 'payload', 'null'), '{}')
        || jsonb_strip_nulls(jsonb_build_object(
          'revoked_by', message.payload -> 'revoked_by', 'pinned', message.payload -> 'pinned'
        )),
      sender_nome = coalesce(message.sender_nome, nullif(btrim(sender ->> 'push_name'), '')),
      seq = p_seq  -- so that whoever catches up by seq gets the text
    where message.conversation_id = conversation
      and message.from_me = is_mine
      and message.whatsapp_message_id = p_event ->> 'whatsapp_message_id'
      and message.tipo = 'unsupported'
      and message.payload @> '{"placeholder": true}'
    returning message.id into recorded;
    if recorded is not null then
      if jsonb_typeof(p_event -> 'attachment') = 'object' then
        perform whatsapp_private.keep_attachment(recorded, p_account, p_workspace, p_event -> 'attachment');
      end if;
      if not whatsapp_private.apply_early_changes(recorded) then
        perform whatsapp_private.refresh_preview(recorded);
      end if;
      p_seq := p_seq + 1;
      p_changed := true;
    end if;
  end if;
end
$$;
comment on function whatsapp_private.record_message(uuid, uuid, jsonb, bigint) is
  'One message becomes one row, however often it is told, with its attachment. p_seq is the next free number, and comes back so.';

create function whatsapp_private.record_receipt(p_account uuid, p_workspace uuid, p_event jsonb) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  receipt_type constant text := p_event ->> 'type';
  receipt_at constant timestamptz := (p_event ->> 'at')::timestamptz;
  ids constant text[] := array(select jsonb_array_elements_text(p_event -> 'ids'));
  peer constant jsonb := whatsapp_private.peer_of(p_event);
  is_own constant boolean := receipt_type = 'read_self';
  peer_lead uuid;
  reader_lead uuid;
  conversation uuid;
  found_rows uuid[];
  found_ids text[];
  newest record;
begin
  if receipt_type is null or receipt_type not in ('delivered', 'read', 'played', 'read_self') or receipt_at is null
    or p_event #>> '{chat,jid}' is null
  then
    raise exception 'type, at or chat is missing or not known.' using errcode = '22023';
  end if;
  if not is_own then
    perform whatsapp_private.heed_evidence(p_account, p_workspace, ids, null);
  end if;
  if peer is not null then
    peer_lead := whatsapp_private.keep_person(p_workspace, peer);
  end if;
  if not is_own and jsonb_typeof(p_event -> 'reader') = 'object' then
    reader_lead := whatsapp_private.keep_person(p_workspace, p_event -> 'reader');
  end if;

  if peer_lead is not null then
    select kept.id into conversation from public.conversations as kept
    where kept.integration_account_id = p_account and kept.lead_id = peer_lead;
  else
    select kept.id into conversation from public.conversations as kept
    where kept.integration_account_id = p_account and kept.chat_jid = p_event #>> '{chat,jid}';
  end if;
  if conversation is not null then
    select array_agg(message.id), array_agg(message.whatsapp_message_id) into found_rows, found_ids
    from public.messages as message
    where message.conversation_id = conversation
      and message.from_me = not is_own
      and message.whatsapp_message_id = any (ids);
  end if;

  if is_own and found_rows is not null then
    select message.sent_at, message.seq into newest from public.messages as message
    where message.id = any (found_rows)
    order by message.sent_at desc, message.seq desc limit 1;
    perform whatsapp_private.mark_read_until(conversation, newest.sent_at, newest.seq);
  elsif found_rows is not null then
    perform whatsapp_private.add_receipts(found_rows, p_workspace, reader_lead, receipt_type, receipt_at);
  end if;

  insert into whatsapp_private.early_receipts (
    integration_account_id, whatsapp_message_id, type, chat_jid, peer_lead_id, reader_lead_id, happened_at
  )
  select p_account, missing.id, receipt_type, p_event #>> '{chat,jid}', peer_lead, reader_lead, receipt_at
  from unnest(ids) as missing (id)
  where missing.id <> all (coalesce(found_ids, '{}'))
  on conflict do nothing;
  return true;
end
$$;
comment on function whatsapp_private.record_receipt(uuid, uuid, jsonb) is
  'A receipt takes effect on the messages that are here, and is kept for those that are not yet.';

create function whatsapp_private.record_sent(p_account uuid, p_workspace uuid, p_event jsonb) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  sent_id constant text := p_event ->> 'whatsapp_message_id';
  accepted_at constant timestamptz := (p_event ->> 'sent_at')::timestamptz;
  command_id constant uuid := (p_event ->> 'command_id')::uuid;
  command public.commands;
  message public.messages;
  echo uuid;
begin
  if sent_id is null or accepted_at is null or command_id is null then
    raise exception 'command_id, whatsapp_message_id or sent_at is missing.' using errcode = '22023';
  end if;
  select * into command from public.commands
  where id = command_id and integration_account_id = p_account
  for no key update;
  if command.id is null then
    return false;
  end if;
  select * into message from public.messages where id = command.message_id for no key update;

  if message.id is not null and message.whatsapp_message_id is null then
    -- another device of the account may have told of it before the answer was recorded
    select id into echo from public.messages
    where conversation_id = message.conversation_id and from_me and whatsapp_message_id = sent_id;
    if echo is not null then
      perform whatsapp_private.absorb_message(message.id, echo);
    end if;
    update public.messages as sent
    set whatsapp_message_id = sent_id,
      sent_at = accepted_at,
      error_code = null,
      status = case when whatsapp_private.rank_of_message_status(sent.status) < 1 then 'sent' else sent.status end
    where sent.id = message.id;
    update public.conversations as kept
    set ultima_mensagem = whatsapp_private.preview_of(message.tipo, message.conteudo),
      ultima_mensagem_em = accepted_at
    where kept.id = message.conversation_id
      and (kept.ultima_mensagem_em is null or kept.ultima_mensagem_em <= accepted_at);
    perform whatsapp_private.apply_early_receipts(message.id);
  end if;

  -- also if it was given up as unknown meanwhile: this is the evidence
  update public.commands
  set status = 'done', error_code = null, error_message = null, finished_at = clock_timestamp(),
    result = jsonb_build_object('message_id', message.id, 'whatsapp_message_id', sent_id, 'timestamp', accepted_at)
  where id = command.id and status <> 'done';
  return true;
end
$$;
comment on function whatsapp_private.record_sent(uuid, uuid, jsonb) is
  'WhatsApp accepted the message of a command: the row gets its id and time, the command is done. False if there is no such command.';

create function whatsapp_private.heed_evidence(p_account uuid, p_workspace uuid, p_ids text[], p_sent_at timestamptz)
returns void
language plpgsql
set search_path = ''
as $$
declare
  settled record;
begin
  for settled in
    select command.id, command.started_at, command.result ->> 'whatsapp_message_id' as name
    from public.commands as command
    where command.integration_account_id = p_account
      and command.status = 'unknown'
      and command.result ->> 'whatsapp_message_id' = any (p_ids)
  loop
    perform whatsapp_private.record_sent(p_account, p_workspace, jsonb_build_object(
      'command_id', settled.id, 'whatsapp_message_id', settled.name,
      'sent_at', coalesce(p_sent_at, settled.started_at, now())
    ));
  end loop;
end
$$;
comment on function whatsapp_private.heed_evidence(uuid, uuid, text[], timestamptz) is
  'Messages with these ids are at WhatsApp: sends whose outcome was unknown, and that left under one of them, are done.';

create function whatsapp_private.record_diagnostic(p_worker uuid, p_account uuid, p_workspace uuid, p_event jsonb)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  -- a batch that is recorded again, and a fault that repeats, make one row an hour
  insert into public.whatsapp_baileys_events
    (workspace_id, integration_account_id, worker_id, level, code, message, context)
  select p_workspace, p_account, p_worker, p_event ->> 'level', p_event ->> 'code', p_event ->> 'message',
    coalesce(nullif(p_event -> 'context', 'null'), '{}')
  where not exists (
    select from public.whatsapp_baileys_events as earlier
    where earlier.integration_account_id = p_account
      and earlier.created_at > now() - interval '1 hour'
      and earlier.level = p_event ->> 'level'
      and earlier.code = p_event ->> 'code'
      and earlier.message = p_event ->> 'message'
      and earlier.context = coalesce(nullif(p_event -> 'context', 'null'), '{}')
  );
  return found;
end
$$;
comment on function whatsapp_private.record_diagnostic(uuid, uuid, uuid, jsonb) is
  'Keeps a diagnostic, unless the same was kept within the last hour.';

create function whatsapp_private.without_unwanted_feeds(p_account uuid, p_events jsonb) returns jsonb
language sql stable
set search_path = ''
as $$
  select case
    when not p_events @? '$[*] ? (@.chat.kind == "status" || @.chat.kind == "newsletter")' then p_events
    else (
      select coalesce(jsonb_agg(event order by place), '[]')
      from jsonb_array_elements(p_events) with ordinality as told (event, place),
        (
          select whatsapp_private.settings_with_defaults(account.settings) as settings
          from public.integration_accounts as account where account.id = p_account
        ) as chosen
      where case told.event #>> '{chat,kind}'
        when 'status' then (chosen.settings ->> 'receive_status_updates')::boolean
        when 'newsletter' then (chosen.settings ->> 'receive_newsletters')::boolean
        else true
      end
    )
  end
$$;
comment on function whatsapp_private.without_unwanted_feeds(uuid, jsonb) is
  'The events of a batch without those of status posts and channels, unless the settings of the account want them.';

create function whatsapp_private.record_events(p_worker uuid, p_account uuid, p_workspace uuid, p_events jsonb)
returns jsonb
language plpgsql
set search_path = ''
-- connections keep their plans: one made while the tables are empty would read them whole later on
set enable_seqscan = off
as $$
declare
  workspace constant uuid := p_workspace;
  event jsonb;
  place bigint := 0;
  next_seq bigint;
  first_seq bigint;
  changed boolean;
  recorded integer := 0;
  person uuid;
  held_since timestamptz;
  wanted jsonb;
begin
  if p_events is null or jsonb_typeof(p_events) <> 'array' then
    raise exception 'Events are a JSON array.' using errcode = '22023';
  end if;
  wanted := whatsapp_private.without_unwanted_feeds(p_account, p_events);
  -- what is wrong with a row must not take the row's text into a log: messages only, no details
  begin
    perform whatsapp_private.lock_identities(
      workspace, whatsapp_private.tells_of_new_people(workspace, wanted)
    );
    held_since := clock_timestamp();
    select counter.last_seq + 1 into first_seq
    from whatsapp_private.message_counters as counter
    where counter.integration_account_id = p_account
    for update;
    next_seq := first_seq;
    for event, place in
      select element.value, element.ordinality from jsonb_array_elements(wanted) with ordinality as element
    loop
      changed := false;
      case event ->> 'kind'
        when 'message' then
          select * into next_seq, changed
          from whatsapp_private.record_message(p_account, workspace, event, next_seq);
        when 'edit', 'revoke', 'reaction', 'poll_vote', 'pin' then
          select * into next_seq, changed
          from whatsapp_private.record_change(p_account, workspace, event, next_seq);
        when 'call' then
          select * into next_seq, changed
          from whatsapp_private.record_call(p_account, workspace, event, next_seq);
        when 'system' then
          select * into next_seq, changed
          from whatsapp_private.record_system(p_account, workspace, event, next_seq);
        when 'receipt' then
          changed := whatsapp_private.record_receipt(p_account, workspace, event);
        when 'sent' then
          changed := whatsapp_private.record_sent(p_account, workspace, event);
        when 'command_finished' then
          changed := whatsapp_private.finish_command(
            p_account, (event ->> 'command_id')::uuid, event ->> 'status', nullif(event -> 'result', 'null'),
            event ->> 'error_code', event ->> 'error_message', (event ->> 'retry_in_s')::double precision,
            (event ->> 'claim')::integer, coalesce((event ->> 'counts')::boolean, true)
          );
        when 'person' then
          person := whatsapp_private.keep_person(workspace, event -> 'person');
          update public.leads as lead
          set business_name = left(event #>> '{person,business_name}', 200)
          where lead.id = person
            and event #>> '{person,business_name}' is not null
            and lead.business_name is distinct from left(event #>> '{person,business_name}', 200);
          changed := true;
        when 'group' then
          changed := whatsapp_private.record_group(p_account, workspace, event);
        when 'picture' then
          changed := whatsapp_private.picture_changed(p_account, workspace, event);
        when 'diagnostic' then
          changed := whatsapp_private.record_diagnostic(p_worker, p_account, workspace, event);
        else
          raise exception 'kind is not known.' using errcode = '22023';
      end case;
      recorded := recorded + changed::integer;
    end loop;
  exception
    when data_exception or integrity_constraint_violation then
      raise exception 'Event % of the batch (%) was refused: %', place, left(event ->> 'kind', 40), sqlerrm
        using errcode = '22023';
  end;

  if next_seq > first_seq then
    update whatsapp_private.message_counters set last_seq = next_seq - 1 where integration_account_id = p_account;
  end if;
  return jsonb_build_object(
    'recorded', recorded,
    'groups_unknown', whatsapp_private.groups_to_ask_for(p_account, wanted),
    'held_s', extract(epoch from clock_timestamp() - held_since)
  );
end
$$;
comment on function whatsapp_private.record_events(uuid, uuid, uuid, jsonb) is
  'Records a batch for an account whose session row the caller has locked; see bridge_record_events.';

create function public.bridge_record_events(p_worker uuid, p_account uuid, p_epoch bigint, p_events jsonb)
returns jsonb
language sql
set search_path = ''
as $$
  select whatsapp_private.record_events(
    p_worker, p_account, whatsapp_private.fence(p_worker, p_account, p_epoch), p_events
  )
$$;
comment on function public.bridge_record_events(uuid, uuid, bigint, jsonb) is
  'Records a batch of events (message, edit, revoke, reaction, poll_vote, pin, call, system, receipt, sent, command_finished, person, group, picture, diagnostic) in order and in one transaction; again and again has the effect of once. Returns {recorded: how many changed something or were receipts, groups_unknown: JIDs of groups whose subject or people are not known yet, held_s: how long other writers of the workspace had to wait}. WB001 if the lease is lost, 22023 if an event is refused (then none is recorded).';
select whatsapp_private.give_to_the_bridge('public.bridge_record_events(uuid, uuid, bigint, jsonb)');
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
