-- What each type of command takes, checked at insert; one sentence says what is wrong.

create function whatsapp_private.text_problem(
  p_payload jsonb, p_key text, p_most integer, p_may_be_empty boolean default false
) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when not p_payload ? p_key then null
    when jsonb_typeof(p_payload -> p_key) <> 'string' then 'payload.' || p_key || ' must be a string.'
    when not p_may_be_empty and p_payload ->> p_key !~ '\S' then 'payload.' || p_key || ' is empty.'
    when char_length(p_payload ->> p_key) > p_most
      then 'payload.' || p_key || ' has more than ' || btrim(to_char(p_most, '999,999')) || ' characters.'
  end
$$;
comment on function whatsapp_private.text_problem(jsonb, text, integer, boolean) is
  'What is wrong with a text of a payload, if it is there.';

create function whatsapp_private.flag_problem(p_payload jsonb, p_keys text[]) returns text
language sql immutable
set search_path = ''
as $$
  select 'payload.' || key || ' must be true or false.'
  from unnest(p_keys) with ordinality as asked (key, place)
  where p_payload ? key and jsonb_typeof(p_payload -> key) <> 'boolean'
  order by place limit 1
$$;
comment on function whatsapp_private.flag_problem(jsonb, text[]) is
  'Which of these keys of a payload is there and neither true nor false.';

create function whatsapp_private.id_problem(p_payload jsonb, p_key text, p_of text) returns text
language sql immutable
set search_path = ''
as $$
  select 'payload.' || p_key || ' must be the id of a ' || p_of || '.'
  where p_payload ? p_key and not (
    jsonb_typeof(p_payload -> p_key) = 'string' and whatsapp_private.is_uuid(p_payload ->> p_key)
  )
$$;
comment on function whatsapp_private.id_problem(jsonb, text, text) is
  'What is wrong with the id of a row in a payload, if it is there.';

create function whatsapp_private.number_problem(
  p_payload jsonb, p_key text, p_least numeric, p_most numeric, p_whole boolean
) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when not p_payload ? p_key then null
    when jsonb_typeof(p_payload -> p_key) <> 'number'
      or (p_payload ->> p_key)::numeric not between p_least and p_most
      or (p_whole and (p_payload ->> p_key)::numeric <> trunc((p_payload ->> p_key)::numeric))
    then 'payload.' || p_key || ' must be a ' || case when p_whole then 'whole ' else '' end || 'number from '
      || p_least || ' to ' || p_most || '.'
  end
$$;
comment on function whatsapp_private.number_problem(jsonb, text, numeric, numeric, boolean) is
  'What is wrong with a number of a payload, if it is there.';

create function whatsapp_private.texts_problem(
  p_payload jsonb, p_key text, p_least integer, p_most integer, p_most_chars integer
) returns text
language plpgsql immutable
set search_path = ''
as $$
declare
  problem text;
begin
  if not p_payload ? p_key then
    return null;
  elsif jsonb_typeof(p_payload -> p_key) <> 'array' then
    return 'payload.' || p_key || ' must be an array of strings.';
  elsif jsonb_array_length(p_payload -> p_key) not between p_least and p_most then
    return 'payload.' || p_key || ' must have ' || p_least || ' to ' || btrim(to_char(p_most, '999,999')) || ' entries.';
  end if;
  select 'payload.' || p_key || '[' || place - 1 || ']' || case
      when jsonb_typeof(value) <> 'string' then ' must be a string.'
      when value #>> '{}' !~ '\S' then ' is empty.'
      else ' has more than ' || p_most_chars || ' characters.'
    end
  into problem
  from jsonb_array_elements(p_payload -> p_key) with ordinality as element (value, place)
  where jsonb_typeof(value) <> 'string' or value #>> '{}' !~ '\S' or char_length(value #>> '{}') > p_most_chars
  order by place limit 1;
  return problem;
end
$$;
comment on function whatsapp_private.texts_problem(jsonb, text, integer, integer, integer) is
  'What is wrong with a list of texts in a payload, if it is there.';

create function whatsapp_private.one_of_problem(p_payload jsonb, p_keys text[], p_at_most_one boolean) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when given.count = 0 then 'payload needs ' || case when p_at_most_one then 'exactly' else 'at least' end
      || ' one of ' || array_to_string(p_keys, ', ') || '.'
    when given.count > 1 and p_at_most_one then 'payload has more than one of ' || array_to_string(p_keys, ', ') || '.'
  end
  from (select count(*) as count from unnest(p_keys) as key where p_payload ? key) as given
$$;
comment on function whatsapp_private.one_of_problem(jsonb, text[], boolean) is
  'Whether none, or too many, of these keys are in a payload.';

create function whatsapp_private.storage_path_problem(p_payload jsonb, p_key text) returns text
language sql immutable
set search_path = ''
as $$
  select coalesce(
    whatsapp_private.text_problem(p_payload, p_key, 1024),
    (
      select 'payload.' || p_key || ' must be the path of a file in the bucket whatsapp-media, '
        'beginning with the id of the workspace.'
      where p_payload ? p_key and (
        not whatsapp_private.is_uuid(split_part(p_payload ->> p_key, '/', 1))
        or p_payload ->> p_key !~ '^[^/]+(/[^/]+)+$'
        or p_payload ->> p_key ~ '(^|/)\.{1,2}(/|$)|[\x01-\x1f\x7f\\]'
      )
    )
  )
$$;
comment on function whatsapp_private.storage_path_problem(jsonb, text) is
  'What is wrong with a path in the bucket, if it is there. Whether it is of the right workspace is seen at submission.';

create function whatsapp_private.cards_problem(p_payload jsonb) returns text
language plpgsql immutable
set search_path = ''
as $$
declare
  card jsonb;
  place bigint;
  problem text;
begin
  if not p_payload ? 'contacts' then
    return whatsapp_private.payload_keys_problem(p_payload - array['to', 'type', 'quoted_message_id',
      'simulate_typing', 'forwarded'], '{name,numbers}', '{}');
  elsif p_payload ?| '{name,numbers}' then
    return 'payload has contacts, and name or numbers: give one or the other.';
  elsif jsonb_typeof(p_payload -> 'contacts') <> 'array' then
    return 'payload.contacts must be an array of {name, numbers}.';
  elsif jsonb_array_length(p_payload -> 'contacts') not between 1 and 50 then
    return 'payload.contacts must have 1 to 50 entries.';
  end if;
  for card, place in
    select value, ordinality - 1 from jsonb_array_elements(p_payload -> 'contacts') with ordinality
  loop
    if jsonb_typeof(card) <> 'object' then
      return 'payload.contacts[' || place || '] must be {name, numbers}.';
    end if;
    problem := coalesce(
      whatsapp_private.payload_keys_problem(card, '{name,numbers}', '{}'),
      whatsapp_private.text_problem(card, 'name', 200),
      whatsapp_private.texts_problem(card, 'numbers', 1, 10, 64)
    );
    if problem is not null then
      return replace(problem, 'payload', 'payload.contacts[' || place || ']');
    end if;
  end loop;
  return null;
end
$$;
comment on function whatsapp_private.cards_problem(jsonb) is
  'What is wrong with the contact cards of a send: one given by name and numbers, or several as contacts.';

create function whatsapp_private.send_problem(p_payload jsonb) returns text
language plpgsql immutable
set search_path = ''
as $$
declare
  kind constant text := p_payload ->> 'type';
  always constant text[] := array['quoted_message_id', 'simulate_typing', 'forwarded'];
  problem text;
  wanted text[];
  optional text[];
begin
  if not p_payload ? 'type' then
    return 'payload.type is missing.';
  elsif jsonb_typeof(p_payload -> 'type') <> 'string' then
    return 'payload.type must be a string.';
  end if;
  case kind
    when 'text' then wanted := '{text}'; optional := '{mentions,link_preview}';
    when 'image', 'video' then
      wanted := '{}'; optional := '{storage_path,media_url,caption,file_name,mime_type,view_once,mentions}';
    when 'document' then wanted := '{}'; optional := '{storage_path,media_url,caption,file_name,mime_type,mentions}';
    when 'audio' then wanted := '{}'; optional := '{storage_path,media_url,file_name,mime_type,ptt,view_once}';
    when 'sticker' then wanted := '{}'; optional := '{storage_path,media_url,file_name,mime_type}';
    when 'location' then wanted := '{latitude,longitude}'; optional := '{name,address,live,caption}';
    when 'contact' then wanted := '{}'; optional := '{name,numbers,contacts}';
    when 'poll' then wanted := '{question,options}'; optional := '{selectable}';
    else
      return 'payload.type must be text, image, video, document, audio, sticker, location, contact or poll.';
  end case;

  problem := coalesce(
    whatsapp_private.payload_keys_problem(p_payload, array['to', 'type'] || wanted, optional || always),
    whatsapp_private.text_problem(p_payload, 'to', 200, true),
    whatsapp_private.id_problem(p_payload, 'quoted_message_id', 'message'),
    whatsapp_private.flag_problem(p_payload, '{simulate_typing,forwarded,link_preview,ptt,view_once,live}'),
    whatsapp_private.texts_problem(p_payload, 'mentions', 0, 1024, 100)
  );
  if problem is not null then
    return problem;
  end if;

  if kind = 'text' then
    return whatsapp_private.text_problem(p_payload, 'text', 65536);
  elsif kind = 'location' then
    if p_payload -> 'live' = 'true' and p_payload ?| '{name,address}' then
      return 'A live location has a caption, and neither name nor address.';
    elsif p_payload ? 'caption' and not p_payload @> '{"live": true}' then
      return 'Only a live location has a caption.';
    end if;
    return coalesce(
      whatsapp_private.text_problem(p_payload, 'caption', 1000),
      whatsapp_private.number_problem(p_payload, 'latitude', -90, 90, false),
      whatsapp_private.number_problem(p_payload, 'longitude', -180, 180, false),
      whatsapp_private.text_problem(p_payload, 'name', 1000),
      whatsapp_private.text_problem(p_payload, 'address', 1000)
    );
  elsif kind = 'contact' then
    return coalesce(
      whatsapp_private.cards_problem(p_payload),
      whatsapp_private.text_problem(p_payload, 'name', 200),
      whatsapp_private.texts_problem(p_payload, 'numbers', 1, 10, 64)
    );
  elsif kind = 'poll' then
    problem := coalesce(
      whatsapp_private.text_problem(p_payload, 'question', 255),
      whatsapp_private.texts_problem(p_payload, 'options', 2, 12, 100)
    );
    if problem is null and (
      select count(distinct btrim(option)) from jsonb_array_elements_text(p_payload -> 'options') as option
    ) < jsonb_array_length(p_payload -> 'options') then
      problem := 'payload.options has an entry twice.';
    end if;
    if problem is not null then
      return problem;
    end if;
    return whatsapp_private.number_problem(
      p_payload, 'selectable', 0, jsonb_array_length(p_payload -> 'options'), true
    );
  end if;

  problem := coalesce(
    whatsapp_private.one_of_problem(p_payload, '{storage_path,media_url}', true),
    whatsapp_private.storage_path_problem(p_payload, 'storage_path'),
    whatsapp_private.text_problem(p_payload, 'media_url', 2048),
    whatsapp_private.text_problem(p_payload, 'caption', 65536, true),
    whatsapp_private.text_problem(p_payload, 'file_name', 255),
    whatsapp_private.text_problem(p_payload, 'mime_type', 200)
  );
  if problem is not null then
    return problem;
  elsif p_payload ->> 'media_url' !~* '^https://[^\s/?#\\]+([/?#]\S*)?$' then
    return 'payload.media_url must be an https:// address.';
  elsif p_payload ->> 'mime_type' !~ '^[a-z]+/[A-Za-z0-9!#$&^_.+-]+(\s*;\s*[A-Za-z0-9_-]+=[^;\s]+)*$' then
    return 'payload.mime_type must be a media type like image/jpeg.';
  end if;
  return null;
end
$$;
comment on function whatsapp_private.send_problem(jsonb) is
  'What is wrong with the payload of a send, in one sentence; null if nothing is.';

-- security definer: frontends may ask it, and may not call the inner functions it uses; it reads no row
create function public.whatsapp_command_problem(type text, payload jsonb) returns text
language plpgsql immutable security definer
set search_path = ''
as $$
declare
  problem text;
begin
  if type is null then
    return 'type is missing.';
  elsif payload is null or jsonb_typeof(payload) <> 'object' then
    return 'payload must be a JSON object.';
  end if;

  case type
    when 'connect' then
      if not payload ? 'method' then
        return 'payload.method is missing.';
      elsif payload -> 'method' = '"qr"' then
        return whatsapp_private.payload_keys_problem(payload, '{method}', '{}');
      elsif payload -> 'method' = '"code"' then
        return coalesce(
          whatsapp_private.payload_keys_problem(payload, '{method,phone}', '{}'),
          whatsapp_private.text_problem(payload, 'phone', 1000, true)
        );
      end if;
      return 'payload.method must be "qr" or "code".';

    when 'disconnect', 'logout' then
      return whatsapp_private.payload_keys_problem(payload, '{}', '{}');

    when 'send' then
      return whatsapp_private.send_problem(payload);

    when 'edit' then
      return coalesce(
        whatsapp_private.payload_keys_problem(payload, '{message_id,text}', '{mentions}'),
        whatsapp_private.id_problem(payload, 'message_id', 'message'),
        whatsapp_private.text_problem(payload, 'text', 65536),
        whatsapp_private.texts_problem(payload, 'mentions', 0, 1024, 100)
      );

    when 'revoke', 'reject_call' then
      return coalesce(
        whatsapp_private.payload_keys_problem(payload, '{message_id}', '{}'),
        whatsapp_private.id_problem(payload, 'message_id', 'message')
      );

    when 'react' then
      problem := coalesce(
        whatsapp_private.payload_keys_problem(payload, '{message_id,emoji}', '{}'),
        whatsapp_private.id_problem(payload, 'message_id', 'message'),
        whatsapp_private.text_problem(payload, 'emoji', 32, true)
      );
      -- an emoji may begin with a digit or # (keycaps), and then goes on with something else
      if problem is null and payload ->> 'emoji' <> '' and payload ->> 'emoji' !~ '^\S*[^\x01-\xa8]\S*$' then
        problem := 'payload.emoji must be one emoji, or empty to take the reaction back.';
      end if;
      return problem;

    when 'mark_read' then
      return coalesce(
        whatsapp_private.payload_keys_problem(payload, '{conversation_id}', '{until_message_id}'),
        whatsapp_private.id_problem(payload, 'conversation_id', 'conversation'),
        whatsapp_private.id_problem(payload, 'until_message_id', 'message')
      );

    when 'typing' then
      problem := coalesce(
        whatsapp_private.payload_keys_problem(payload, '{conversation_id,state}', '{}'),
        whatsapp_private.id_problem(payload, 'conversation_id', 'conversation')
      );
      if problem is null and payload -> 'state' not in ('"composing"', '"recording"', '"paused"') then
        problem := 'payload.state must be composing, recording or paused.';
      end if;
      return problem;

    when 'check_numbers' then
      return coalesce(
        whatsapp_private.payload_keys_problem(payload, '{numbers}', '{}'),
        whatsapp_private.texts_problem(payload, 'numbers', 1, 50, 64)
      );

    when 'sync_history' then
      return coalesce(
        whatsapp_private.payload_keys_problem(payload, '{days}', '{}'),
        whatsapp_private.number_problem(payload, 'days', 1, 3650, true)
      );

    when 'refresh_profile', 'block', 'unblock' then
      return coalesce(
        whatsapp_private.payload_keys_problem(payload, '{}', '{lead_id,conversation_id}'),
        whatsapp_private.one_of_problem(payload, '{lead_id,conversation_id}', true),
        whatsapp_private.id_problem(payload, 'lead_id', 'lead'),
        whatsapp_private.id_problem(payload, 'conversation_id', 'conversation')
      );

    when 'group_create' then
      return coalesce(
        whatsapp_private.payload_keys_problem(payload, '{subject,participants}', '{}'),
        whatsapp_private.text_problem(payload, 'subject', 100),
        whatsapp_private.texts_problem(payload, 'participants', 1, 1023, 100)
      );

    when 'group_update' then
      return coalesce(
        whatsapp_private.payload_keys_problem(
          payload, '{conversation_id}', '{subject,description,announce,locked,picture_path}'
        ),
        whatsapp_private.id_problem(payload, 'conversation_id', 'conversation'),
        whatsapp_private.one_of_problem(payload, '{subject,description,announce,locked,picture_path}', false),
        whatsapp_private.text_problem(payload, 'subject', 100),
        whatsapp_private.text_problem(payload, 'description', 2048, true),
        whatsapp_private.flag_problem(payload, '{announce,locked}'),
        whatsapp_private.storage_path_problem(payload, 'picture_path')
      );

    when 'group_participants' then
      problem := coalesce(
        whatsapp_private.payload_keys_problem(payload, '{conversation_id,action,participants}', '{}'),
        whatsapp_private.id_problem(payload, 'conversation_id', 'conversation'),
        whatsapp_private.texts_problem(payload, 'participants', 1, 1023, 100)
      );
      if problem is null and payload -> 'action' not in ('"add"', '"remove"', '"promote"', '"demote"') then
        problem := 'payload.action must be add, remove, promote or demote.';
      end if;
      return problem;

    when 'group_invite' then
      return coalesce(
        whatsapp_private.payload_keys_problem(payload, '{conversation_id}', '{revoke}'),
        whatsapp_private.id_problem(payload, 'conversation_id', 'conversation'),
        whatsapp_private.flag_problem(payload, '{revoke}')
      );

    when 'group_leave' then
      return coalesce(
        whatsapp_private.payload_keys_problem(payload, '{conversation_id}', '{}'),
        whatsapp_private.id_problem(payload, 'conversation_id', 'conversation')
      );

    when 'set_profile' then
      return coalesce(
        whatsapp_private.payload_keys_problem(payload, '{}', '{name,status,picture_path}'),
        whatsapp_private.one_of_problem(payload, '{name,status,picture_path}', false),
        whatsapp_private.text_problem(payload, 'name', 25),
        whatsapp_private.text_problem(payload, 'status', 139, true),
        whatsapp_private.storage_path_problem(payload, 'picture_path')
      );

    else
      return 'type is not known: ' || quote_literal(left(type, 40)) || '. Known are connect, disconnect, logout, '
        'send, edit, revoke, react, mark_read, typing, check_numbers, sync_history, refresh_profile, group_create, '
        'group_update, group_participants, group_invite, group_leave, set_profile, block, unblock and reject_call.';
  end case;
end
$$;
comment on function public.whatsapp_command_problem(text, jsonb) is
  'What is wrong with a command of this type and payload, in one sentence; null if nothing is. Does not look at any row.';
revoke all on function public.whatsapp_command_problem(text, jsonb) from public, anon, authenticated, service_role;
grant execute on function public.whatsapp_command_problem(text, jsonb) to authenticated, service_role;

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
