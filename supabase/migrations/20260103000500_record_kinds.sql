-- Every kind of message becomes a row; the same batch again changes nothing.

create or replace function whatsapp_private.mark_read_until(p_conversation uuid, p_sent_at timestamptz, p_seq bigint)
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

create or replace function public.bridge_unread_messages(
  p_worker uuid, p_account uuid, p_epoch bigint, p_conversation uuid, p_until_message uuid
) returns table (whatsapp_message_id text, sender_jid text, sent_at timestamptz, chat_jid text)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
begin
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  return query
  select unread.whatsapp_message_id, unread.sender_id, unread.sent_at, unread.chat_jid
  from (
    select message.whatsapp_message_id, message.sender_id, message.sent_at, message.seq,
      coalesce(message.chat_jid, conversation.chat_jid) as chat_jid
    from public.conversations as conversation
    join public.messages as message on message.conversation_id = conversation.id
    where conversation.id = p_conversation
      and conversation.integration_account_id = p_account
      and not message.from_me
      and message.tipo not in ('reaction', 'system', 'call')
    order by message.sent_at desc, message.seq desc
    limit (
      select least(nao_lidas, 1000) from public.conversations
      where id = p_conversation and integration_account_id = p_account
    )
  ) as unread
  where p_until_message is null or (unread.sent_at, unread.seq) <= (
    select until.sent_at, until.seq from public.messages as until
    where until.id = p_until_message and until.conversation_id = p_conversation
  )
  order by unread.sent_at, unread.seq;
end
$$;

create or replace function whatsapp_private.people_of(p_event jsonb) returns setof jsonb
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
          when p_event ->> 'kind' in ('message', 'edit', 'revoke', 'reaction', 'poll_vote', 'call', 'system')
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

create or replace function whatsapp_private.record_message(
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
        || jsonb_strip_nulls(jsonb_build_object('revoked_by', message.payload -> 'revoked_by')),
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

create function whatsapp_private.state_of_call(p_known text, p_told text) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when 'rejected' in (p_known, p_told) then 'rejected'
    when p_known = 'ended' then 'ended'
    when p_told = 'ended' then case when p_known = 'accepted' then 'ended' else 'missed' end
    when p_told = 'accepted' then case when p_known = 'missed' then 'ended' else 'accepted' end
    else coalesce(p_known, 'ringing')
  end
$$;
comment on function whatsapp_private.state_of_call(text, text) is
  'ringing, accepted, ended (it was accepted before), missed (it was not) or rejected: out of what was known and what is told, in any order.';

create function whatsapp_private.record_call(
  p_account uuid, p_workspace uuid, p_event jsonb, inout p_seq bigint, out p_changed boolean
)
language plpgsql
set search_path = ''
as $$
declare
  new_state constant text := p_event ->> 'state';
  chat_kind constant text := p_event #>> '{chat,kind}';
  sender constant jsonb := p_event -> 'sender';
  told_at constant timestamptz := (p_event ->> 'at')::timestamptz;
  told_id constant text := 'call-' || (p_event ->> 'call_id');
  sender_lead uuid;
  conversation uuid;
  recorded uuid;
begin
  p_changed := false;
  if told_id is null or told_at is null or p_event #>> '{chat,jid}' is null
    or new_state is null or new_state not in ('ringing', 'accepted', 'rejected', 'ended')
    or jsonb_typeof(sender) is distinct from 'object'
  then
    raise exception 'call_id, chat, sender, state or at is missing or not known.' using errcode = '22023';
  end if;
  sender_lead := whatsapp_private.keep_person(p_workspace, sender);
  if chat_kind = 'direct' then
    conversation := whatsapp_private.keep_direct_conversation(p_account, p_workspace, sender_lead);
  else
    conversation := whatsapp_private.keep_chat(p_account, p_workspace, p_event #>> '{chat,jid}', chat_kind);
  end if;
  insert into public.messages (
    workspace_id, integration_account_id, conversation_id, whatsapp_message_id, from_me, chat_jid,
    sender_id, sender_lead_id, sender_nome, tipo, payload, status, sent_at, seq
  )
  values (
    p_workspace, p_account, conversation, told_id, false, p_event #>> '{chat,jid}',
    coalesce(sender ->> 'phone_jid', sender ->> 'lid'), sender_lead,
    (select coalesce(lead.push_name, lead.business_name, lead.nome) from public.leads as lead where lead.id = sender_lead),
    'call',
    coalesce(nullif(p_event -> 'payload', 'null'), '{}') || jsonb_build_object(
      'call_id', p_event -> 'call_id', 'state', whatsapp_private.state_of_call(null, new_state)
    ),
    'delivered', told_at, p_seq
  )
  on conflict (conversation_id, from_me, whatsapp_message_id) do nothing
  returning id into recorded;
  if recorded is not null then
    update public.conversations as kept
    set ultima_mensagem = case
        when kept.ultima_mensagem_em is null or kept.ultima_mensagem_em <= told_at
        then whatsapp_private.preview_of('call', null) else kept.ultima_mensagem
      end,
      ultima_mensagem_em = greatest(kept.ultima_mensagem_em, told_at),
      status = 'open'
    where kept.id = conversation;
  else
    update public.messages as message
    set payload = coalesce(nullif(p_event -> 'payload', 'null'), '{}') || message.payload || jsonb_build_object(
        'state', whatsapp_private.state_of_call(message.payload ->> 'state', new_state)
      ),
      seq = p_seq
    where message.conversation_id = conversation
      and not message.from_me
      and message.whatsapp_message_id = told_id
      and (
        whatsapp_private.state_of_call(message.payload ->> 'state', new_state) <> message.payload ->> 'state'
        or not message.payload @> (coalesce(nullif(p_event -> 'payload', 'null'), '{}') - array(select jsonb_object_keys(message.payload)))
      );
    if not found then
      return;
    end if;
  end if;
  p_seq := p_seq + 1;
  p_changed := true;
end
$$;
comment on function whatsapp_private.record_call(uuid, uuid, jsonb, bigint) is
  'A call is one row, whose state follows what is told, in any order. p_seq is the next free number, and comes back so.';

create function whatsapp_private.record_system(
  p_account uuid, p_workspace uuid, p_event jsonb, inout p_seq bigint, out p_changed boolean
)
language plpgsql
set search_path = ''
as $$
declare
  is_mine constant boolean := (p_event ->> 'from_me')::boolean;
  sender constant jsonb := p_event -> 'sender';
  told_at constant timestamptz := (p_event ->> 'at')::timestamptz;
  sender_lead uuid;
  conversation uuid;
  people jsonb;
  recorded uuid;
begin
  p_changed := false;
  if is_mine is null or told_at is null or p_event #>> '{chat,jid}' is null
    or p_event ->> 'whatsapp_message_id' is null or p_event ->> 'action' is null
    or p_event #>> '{chat,kind}' is not distinct from 'direct'
  then
    raise exception 'chat, from_me, whatsapp_message_id, action or at is missing.' using errcode = '22023';
  end if;
  if not is_mine and coalesce(sender ->> 'phone_jid', sender ->> 'lid') is not null then
    sender_lead := whatsapp_private.keep_person(p_workspace, sender);
  end if;
  conversation := whatsapp_private.keep_chat(
    p_account, p_workspace, p_event #>> '{chat,jid}', p_event #>> '{chat,kind}'
  );
  -- people who are only named do not become leads: a community may have thousands
  select jsonb_agg(
    jsonb_build_object(
      'jid', coalesce(person ->> 'phone_jid', person ->> 'lid'),
      'name', coalesce(
        lead.nome, lead.push_name, lead.business_name,
        '+' || nullif(regexp_replace(person ->> 'phone_jid', '[^0-9].*', ''), '')
      )
    )
    order by place
  ) into people
  from jsonb_array_elements(coalesce(nullif(p_event -> 'people', 'null'), '[]')) with ordinality as named (person, place)
  left join lateral (
    select known.nome, known.push_name, known.business_name from public.leads as known
    where known.workspace_id = p_workspace
      and (known.whatsapp_wa_id = person ->> 'phone_jid' or known.lid = person ->> 'lid')
    order by known.created_at limit 1
  ) as lead on true;
  insert into public.messages (
    workspace_id, integration_account_id, conversation_id, whatsapp_message_id, from_me, chat_jid,
    sender_id, sender_lead_id, sender_nome, tipo, conteudo, payload, status, sent_at, seq
  )
  values (
    p_workspace, p_account, conversation, p_event ->> 'whatsapp_message_id', is_mine, p_event #>> '{chat,jid}',
    coalesce(sender ->> 'phone_jid', sender ->> 'lid'), sender_lead,
    (select coalesce(lead.push_name, lead.business_name, lead.nome) from public.leads as lead where lead.id = sender_lead),
    'system',
    coalesce(
      p_event ->> 'conteudo',
      (select string_agg(person ->> 'name', ', ' order by place)
       from jsonb_array_elements(people) with ordinality as named (person, place))
    ),
    coalesce(nullif(p_event -> 'payload', 'null'), '{}')
      || jsonb_build_object('action', p_event -> 'action')
      || case when people is null then '{}' else jsonb_build_object('people', people) end,
    case when is_mine then 'sent' else 'delivered' end, told_at, p_seq
  )
  on conflict (conversation_id, from_me, whatsapp_message_id) do nothing
  returning id into recorded;
  if recorded is null then
    return;
  end if;
  -- a group that nobody wrote in has its place in the list, too
  update public.conversations set ultima_mensagem_em = told_at
  where id = conversation and ultima_mensagem_em is null;
  p_seq := p_seq + 1;
  p_changed := true;
end
$$;
comment on function whatsapp_private.record_system(uuid, uuid, jsonb, bigint) is
  'Something happened to a group: one row, however often it is told. p_seq is the next free number, and comes back so.';

create or replace function public.bridge_record_events(p_worker uuid, p_account uuid, p_epoch bigint, p_events jsonb)
returns jsonb
language plpgsql
set search_path = ''
-- connections keep their plans: one made while the tables are empty would read them whole later on
set enable_seqscan = off
as $$
declare
  workspace constant uuid := whatsapp_private.fence(p_worker, p_account, p_epoch);
  event jsonb;
  place bigint := 0;
  next_seq bigint;
  first_seq bigint;
  changed boolean;
  recorded integer := 0;
  groups_unknown jsonb;
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
        when 'edit', 'revoke', 'reaction', 'poll_vote' then
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
            (event ->> 'attempt')::integer
          );
        when 'person' then
          perform whatsapp_private.keep_person(workspace, event -> 'person');
          changed := true;
        when 'group' then
          update public.conversations
          set nome = event ->> 'subject'
          where integration_account_id = p_account
            and chat_jid = event ->> 'jid'
            and kind <> 'direct'
            and nome is distinct from event ->> 'subject';
          changed := found;
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
  select coalesce(jsonb_agg(distinct conversation.chat_jid), '[]') into groups_unknown
  from jsonb_array_elements(wanted) as told
  join public.conversations as conversation
    on conversation.integration_account_id = p_account
    and conversation.chat_jid = told #>> '{chat,jid}'
  where told ->> 'kind' in ('message', 'system')
    and conversation.kind = 'group'
    and conversation.nome is null;
  return jsonb_build_object('recorded', recorded, 'groups_unknown', groups_unknown);
end
$$;
comment on function public.bridge_record_events(uuid, uuid, bigint, jsonb) is
  'Records a batch of events (message, edit, revoke, reaction, poll_vote, call, system, receipt, sent, command_finished, person, group, diagnostic) in order and in one transaction; again and again has the effect of once. Returns {recorded: how many changed something or were receipts, groups_unknown: JIDs of groups without a name}. WB001 if the lease is lost, 22023 if an event is refused (then none is recorded).';
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
