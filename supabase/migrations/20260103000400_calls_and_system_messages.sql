-- Calls, and what WhatsApp says about a chat itself: rows of kind call and system.

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
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
