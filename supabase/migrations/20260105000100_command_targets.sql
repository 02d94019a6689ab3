-- Commands about a message or a person: what they mean is found at insert, and what they changed is
-- in the rows when they are done. Meanwhile `messages.pending_changes` shows what is under way.

create function whatsapp_private.jid_of_person(p_workspace uuid, p_country_code text, p_spelling text) returns text
language plpgsql stable
set search_path = ''
as $$
declare
  spelling constant text := btrim(p_spelling);
begin
  if whatsapp_private.is_uuid(spelling) then
    return (
      select coalesce(lead.whatsapp_wa_id, lead.lid) from public.leads as lead
      where lead.workspace_id = p_workspace
        and lead.id = coalesce(
          (select new_id from whatsapp_private.merged_rows where old_id = spelling::uuid and workspace_id = p_workspace),
          spelling::uuid
        )
    );
  elsif spelling ~ '^[1-9][0-9]{7,14}@(s\.whatsapp\.net|c\.us)$' then
    return whatsapp_private.known_spelling(p_workspace, split_part(spelling, '@', 1) || '@s.whatsapp.net');
  elsif spelling ~ '^[0-9]{1,20}@lid$' then
    return spelling;
  end if;
  return whatsapp_private.known_spelling(
    p_workspace, whatsapp_private.phone_digits(spelling, p_country_code) || '@s.whatsapp.net'
  );
end
$$;
comment on function whatsapp_private.jid_of_person(uuid, text, text) is
  'The JID of a person given as phone number, JID or lead id; null if it is none of them (any more).';

create function whatsapp_private.jids_of_people(
  p_workspace uuid, p_country_code text, p_payload jsonb, p_key text
) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  jids jsonb;
  wrong bigint;
begin
  select jsonb_agg(found.jid order by found.place), min(found.place) filter (where found.jid is null)
  into jids, wrong
  from (
    select place, whatsapp_private.jid_of_person(p_workspace, p_country_code, value) as jid
    from jsonb_array_elements_text(p_payload -> p_key) with ordinality as person (value, place)
  ) as found;
  if wrong is not null then
    raise exception 'payload.%[%] is not a phone number, the JID of a person or a lead id.', p_key, wrong - 1
      using errcode = '22023';
  end if;
  return coalesce(jids, '[]');
end
$$;
comment on function whatsapp_private.jids_of_people(uuid, text, jsonb, text) is
  'A list of people in a payload as JIDs.';

create function whatsapp_private.digits_of_numbers(p_country_code text, p_payload jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
  numbers jsonb;
  wrong bigint;
begin
  select jsonb_agg(found.digits order by found.place), min(found.place) filter (where found.digits is null)
  into numbers, wrong
  from (
    select place, whatsapp_private.phone_digits(value, p_country_code) as digits
    from jsonb_array_elements_text(p_payload -> 'numbers') with ordinality as number (value, place)
  ) as found;
  if wrong is not null then
    raise exception 'payload.numbers[%] is not a phone number.', wrong - 1 using errcode = '22023';
  end if;
  return numbers;
end
$$;
comment on function whatsapp_private.digits_of_numbers(text, jsonb) is 'The numbers of a payload as digits.';

create function whatsapp_private.cards_with_digits(p_country_code text, p_payload jsonb) returns jsonb
language plpgsql immutable
set search_path = ''
as $$
declare
  cards jsonb := '[]';
  card jsonb;
begin
  if p_payload ? 'numbers' then
    return jsonb_set(p_payload, '{numbers}', whatsapp_private.digits_of_numbers(p_country_code, p_payload));
  end if;
  for card in select value from jsonb_array_elements(p_payload -> 'contacts') loop
    cards := cards || jsonb_build_array(
      jsonb_set(card, '{numbers}', whatsapp_private.digits_of_numbers(p_country_code, card))
    );
  end loop;
  return jsonb_set(p_payload, '{contacts}', cards);
end
$$;
comment on function whatsapp_private.cards_with_digits(text, jsonb) is
  'The payload of a send of contact cards, with the numbers as digits.';

create function whatsapp_private.conversation_of_command(
  p_account uuid, p_workspace uuid, p_payload jsonb, p_kinds text[]
) returns public.conversations
language plpgsql stable
set search_path = ''
as $$
declare
  named constant uuid := (p_payload ->> 'conversation_id')::uuid;
  conversation public.conversations;
begin
  select * into conversation from public.conversations
  where integration_account_id = p_account
    and id = coalesce(
      (select new_id from whatsapp_private.merged_rows where old_id = named and workspace_id = p_workspace), named
    );
  if conversation.id is null then
    raise exception 'payload.conversation_id is not a conversation of this account.' using errcode = '22023';
  elsif conversation.kind <> all (p_kinds) then
    raise exception 'payload.conversation_id is a conversation of kind %; this needs %.',
      conversation.kind, array_to_string(p_kinds, ' or ') using errcode = '22023';
  end if;
  return conversation;
end
$$;
comment on function whatsapp_private.conversation_of_command(uuid, uuid, jsonb, text[]) is
  'The conversation that a payload names, of one of these kinds.';

create function whatsapp_private.message_of_command(p_account uuid, p_payload jsonb, p_key text)
returns public.messages
language plpgsql stable
set search_path = ''
as $$
declare
  message public.messages;
begin
  select * into message from public.messages
  where id = (p_payload ->> p_key)::uuid and integration_account_id = p_account;
  if message.id is null then
    raise exception 'payload.% is not a message of this account.', p_key using errcode = '22023';
  elsif message.status = 'failed' and message.whatsapp_message_id is null then
    raise exception 'payload.% is a message that was not sent.', p_key using errcode = '22023';
  elsif message.revoked_at is not null or message.pending_changes ? 'revoke' then
    raise exception 'payload.% is a message that was deleted.', p_key using errcode = '22023';
  end if;
  return message;
end
$$;
comment on function whatsapp_private.message_of_command(uuid, jsonb, text) is
  'The message that a payload names, which is (or is about to be) at WhatsApp.';

create function whatsapp_private.change_problem(p_type text, p_message public.messages, p_kind text) returns text
language sql stable
set search_path = ''
as $$
  select case p_type
    when 'edit' then case
      when not p_message.from_me then 'Only own messages can be edited.'
      when p_message.tipo not in ('text', 'image', 'video', 'document')
        then 'Only texts, and captions of images, videos and documents, can be edited.'
      when p_message.payload @> '{"view_once": true}' then 'What is seen once cannot be edited.'
      when p_message.whatsapp_message_id is not null and p_message.sent_at < now() - interval '20 minutes'
        then 'WhatsApp takes an edit for some 15 minutes only.'
    end
    when 'revoke' then case
      when not p_message.from_me and p_kind <> 'group'
        then 'Only own messages can be deleted for everyone, or in a group, by its admins, those of others.'
      when p_message.tipo in ('system', 'call', 'reaction') then 'This is no message that can be deleted.'
      when p_message.whatsapp_message_id is not null and p_message.sent_at < now() - interval '60 hours'
        then 'WhatsApp deletes a message for everyone within 60 hours only.'
    end
    when 'react' then case
      when p_message.tipo in ('system', 'call', 'reaction') then 'This is no message that can be reacted to.'
    end
    when 'reject_call' then case
      when p_message.tipo <> 'call' or p_message.from_me then 'payload.message_id is not an incoming call.'
    end
  end
$$;
comment on function whatsapp_private.change_problem(text, public.messages, text) is
  'Why WhatsApp would not let this be done to a message; null if it would.';

create function whatsapp_private.row_of_send(p_payload jsonb, out conteudo text, out more jsonb)
language plpgsql immutable
set search_path = ''
as $$
begin
  more := '{}';
  case p_payload ->> 'type'
    when 'text' then
      conteudo := p_payload ->> 'text';
    when 'location' then
      more := jsonb_strip_nulls(jsonb_build_object(
        'latitude', p_payload -> 'latitude', 'longitude', p_payload -> 'longitude',
        'live', coalesce(p_payload -> 'live', 'false'), 'caption', p_payload -> 'caption',
        'name', p_payload -> 'name', 'address', p_payload -> 'address'
      ));
      conteudo := coalesce(
        p_payload ->> 'caption', p_payload ->> 'name', p_payload ->> 'address',
        round((p_payload ->> 'latitude')::numeric, 6) || ', ' || round((p_payload ->> 'longitude')::numeric, 6)
      );
    when 'contact' then
      more := jsonb_build_object('contacts', coalesce(p_payload -> 'contacts', jsonb_build_array(
        jsonb_build_object('name', p_payload -> 'name', 'numbers', p_payload -> 'numbers')
      )));
      conteudo := (
        select string_agg(card ->> 'name', ', ' order by place)
        from jsonb_array_elements(more -> 'contacts') with ordinality as given (card, place)
      );
    when 'poll' then
      conteudo := p_payload ->> 'question';
      more := jsonb_build_object(
        'question', p_payload -> 'question',
        'options', (
          select jsonb_agg(jsonb_build_object('name', option) order by place)
          from jsonb_array_elements_text(p_payload -> 'options') with ordinality as given (option, place)
        ),
        'selectable', coalesce(p_payload -> 'selectable', '1')
      );
    else
      conteudo := coalesce(
        nullif(p_payload ->> 'caption', ''),
        case when p_payload ->> 'type' = 'document' then p_payload ->> 'file_name' end
      );
      more := case when p_payload -> 'ptt' = 'true' then '{"voice_note": true}'::jsonb else '{}' end
        || case when p_payload -> 'view_once' = 'true' then '{"view_once": true}'::jsonb else '{}' end;
  end case;
  if p_payload -> 'forwarded' = 'true' then
    more := more || '{"forwarded": true}';
  end if;
end
$$;
comment on function whatsapp_private.row_of_send(jsonb) is
  'conteudo and payload of the message row of a send, as those of a received message of the kind.';

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
