-- Commands about a message or a person: what they mean is found at insert, and what they changed is
-- in the rows when they are done. Meanwhile `messages.pending_changes` shows what is under way.

alter table public.commands add column target_message_id uuid;
comment on column public.commands.target_message_id is
  'edit, revoke, react, reject_call: the message it is about; send: the message it answers. Filled in.';
create index commands_by_target on public.commands (target_message_id) where target_message_id is not null;

alter table public.messages add column pending_changes jsonb not null default '{}'
  constraint messages_pending_changes_are_an_object check (jsonb_typeof(pending_changes) = 'object');
comment on column public.messages.pending_changes is
  'What was asked for and WhatsApp has not taken yet: {"edit": {"command_id", "text"}, "revoke": {"command_id"}, '
  '"react": {"command_id", "emoji"}}. A key goes when its command is done, failed or cancelled.';

comment on column public.commands.type is
  'connect, disconnect, logout, send, edit, revoke, react, mark_read, typing, check_numbers, sync_history, '
  'refresh_profile, group_create, group_update, group_participants, group_invite, group_leave, set_profile, block, '
  'unblock or reject_call.';
comment on column public.commands.payload is
  'By type; docs/commands.md lists all. connect: {"method": "qr"} or {"method": "code", "phone"}. '
  'send: {"to", "type": "text", "text"} and other kinds; to is a phone number, a JID, a lead id or a conversation id. '
  'Numbers and lead ids in mentions, participants and contacts are replaced by JIDs or digits.';
comment on column public.commands.result is
  'By type. send, edit, revoke, react: {"message_id", "whatsapp_message_id", "timestamp"}. connect: {"status"}.';

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
    return split_part(spelling, '@', 1) || '@s.whatsapp.net';
  elsif spelling ~ '^[0-9]{1,20}@lid$' then
    return spelling;
  end if;
  return whatsapp_private.phone_digits(spelling, p_country_code) || '@s.whatsapp.net';
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
      when p_message.tipo <> 'text' then 'Only texts can be edited.'
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
        'latitude', p_payload -> 'latitude', 'longitude', p_payload -> 'longitude', 'live', false,
        'name', p_payload -> 'name', 'address', p_payload -> 'address'
      ));
      conteudo := coalesce(
        p_payload ->> 'name', p_payload ->> 'address',
        round((p_payload ->> 'latitude')::numeric, 6) || ', ' || round((p_payload ->> 'longitude')::numeric, 6)
      );
    when 'contact' then
      conteudo := p_payload ->> 'name';
      more := jsonb_build_object('contacts', jsonb_build_array(
        jsonb_build_object('name', p_payload -> 'name', 'numbers', p_payload -> 'numbers')
      ));
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
end
$$;
comment on function whatsapp_private.row_of_send(jsonb) is
  'conteudo and payload of the message row of a send, as those of a received message of the kind.';

create or replace function whatsapp_private.submit_command() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  -- the role of the request; current_user is the owner of this function
  is_member constant boolean := current_setting('role', true) in ('anon', 'authenticated');
  account public.integration_accounts;
  country_code text;
  problem text;
  phone text;
  path text;
  conversation public.conversations;
  target public.messages;
  row_of record;
  named uuid;
  -- worthless when it comes late
  lives constant interval := case new.type
    when 'typing' then interval '30 seconds' when 'reject_call' then interval '2 minutes' else interval '24 hours'
  end;
begin
  select * into account from public.integration_accounts where id = new.integration_account_id;
  if account.id is null
    or new.workspace_id <> account.workspace_id
    or (
      is_member
      and account.workspace_id not in (select public.whatsapp_workspaces_of_caller('viewer'))
    )
  then
    raise exception 'integration_account_id is not one of your WhatsApp accounts.' using errcode = '22023';
  end if;
  if is_member and account.workspace_id not in (select public.whatsapp_workspaces_of_caller('agent')) then
    raise exception 'Giving commands needs the role agent in this workspace.' using errcode = '42501';
  end if;

  problem := public.whatsapp_command_problem(new.type, new.payload);
  if problem is not null then
    raise exception '%', problem using errcode = '22023';
  end if;
  if char_length(new.idempotency_key) not between 1 and 200 then
    raise exception 'idempotency_key needs 1 to 200 characters.' using errcode = '22023';
  end if;
  if new.priority not between -100 and 100 then
    raise exception 'priority must be from -100 to 100.' using errcode = '22023';
  end if;
  new.run_at := coalesce(new.run_at, now());
  if whatsapp_private.is_after_a_year(new.run_at) then
    raise exception 'run_at must be within a year.' using errcode = '22023';
  end if;
  new.expires_at := coalesce(new.expires_at, greatest(new.run_at, now()) + lives);
  if whatsapp_private.is_after_a_year(new.expires_at - interval '24 hours') or new.expires_at <= now() then
    raise exception 'expires_at must be in the future, and within a year.' using errcode = '22023';
  end if;
  foreach path in array array[new.payload ->> 'storage_path', new.payload ->> 'picture_path'] loop
    if path is not null and not starts_with(lower(path), account.workspace_id::text || '/') then
      raise exception 'A path in the bucket must begin with the id of your workspace.' using errcode = '22023';
    end if;
  end loop;

  new.id := coalesce(new.id, gen_random_uuid());
  new.workspace_id := account.workspace_id;
  new.created_by := case when is_member then auth.uid() else new.created_by end;
  new.created_at := clock_timestamp();
  new.priority := coalesce(new.priority, 0);
  new.status := 'pending';
  new.attempts := 0;
  new.result := null;
  new.error_code := null;
  new.error_message := null;
  new.conversation_id := null;
  new.chat_jid := null;
  new.message_id := null;
  new.target_message_id := null;
  new.lease_epoch := null;
  new.started_at := null;
  new.finished_at := null;
  country_code := whatsapp_private.settings_with_defaults(account.settings) ->> 'default_country_code';

  if new.type in ('send', 'edit', 'revoke', 'react') then
    -- exclusively, also for somebody known: the next row of the request may be for somebody new, or
    -- for another account, and what it needs then must not be with somebody who waits for this one
    perform whatsapp_private.lock_identities(account.workspace_id, true);
    -- one at a time per account from here on, so that a repeated insert is seen
    perform from whatsapp_private.message_counters where integration_account_id = account.id for update;
    if exists (select from public.commands where id = new.id)
      or exists (
        select from public.commands
        where integration_account_id = account.id and idempotency_key = new.idempotency_key
      )
    then
      return new;  -- to be refused by its unique index, or skipped by `on conflict do nothing`
    end if;
  end if;
  if new.payload ? 'mentions' then
    new.payload := jsonb_set(
      new.payload, '{mentions}',
      whatsapp_private.jids_of_people(account.workspace_id, country_code, new.payload, 'mentions')
    );
  end if;

  case new.type
    when 'connect' then
      if new.payload ? 'phone' then
        phone := whatsapp_private.phone_digits(new.payload ->> 'phone', country_code);
        if phone is null then
          raise exception 'payload.phone is not a phone number.' using errcode = '22023';
        end if;
        new.payload := jsonb_set(new.payload, '{phone}', to_jsonb(phone));
      end if;

    when 'mark_read' then
      conversation := whatsapp_private.conversation_of_command(
        account.id, account.workspace_id, new.payload, '{direct,group,newsletter,broadcast,status}'
      );
      if new.payload ? 'until_message_id' and not exists (
        select from public.messages
        where id = (new.payload ->> 'until_message_id')::uuid and conversation_id = conversation.id
      ) then
        raise exception 'payload.until_message_id is not a message of this conversation.' using errcode = '22023';
      end if;
      new.conversation_id := conversation.id;
      new.chat_jid := conversation.chat_jid;

    when 'typing' then
      conversation := whatsapp_private.conversation_of_command(
        account.id, account.workspace_id, new.payload, '{direct,group}'
      );
      new.chat_jid := conversation.chat_jid;  -- waits for nothing, and lets nothing wait

    when 'group_update', 'group_participants', 'group_invite', 'group_leave' then
      conversation := whatsapp_private.conversation_of_command(
        account.id, account.workspace_id, new.payload, '{group}'
      );
      new.conversation_id := conversation.id;
      new.chat_jid := conversation.chat_jid;

    when 'block', 'unblock', 'refresh_profile' then
      if new.payload ? 'conversation_id' then
        conversation := whatsapp_private.conversation_of_command(
          account.id, account.workspace_id, new.payload,
          case when new.type = 'refresh_profile' then array['direct', 'group'] else array['direct'] end
        );
        new.chat_jid := conversation.chat_jid;
      else
        new.chat_jid := whatsapp_private.jid_of_person(account.workspace_id, country_code, new.payload ->> 'lead_id');
        if new.chat_jid is null then
          raise exception 'payload.lead_id is not a lead of this workspace.' using errcode = '22023';
        end if;
      end if;

    when 'edit', 'revoke', 'react', 'reject_call' then
      target := whatsapp_private.message_of_command(account.id, new.payload, 'message_id');
      select * into conversation from public.conversations where id = target.conversation_id;
      problem := whatsapp_private.change_problem(new.type, target, conversation.kind);
      if problem is not null then
        raise exception '%', problem using errcode = '22023';
      end if;
      new.target_message_id := target.id;
      new.chat_jid := conversation.chat_jid;
      if new.type <> 'reject_call' then
        new.conversation_id := conversation.id;
        update public.messages set pending_changes = pending_changes || jsonb_build_object(
          new.type, jsonb_build_object('command_id', new.id) || new.payload - 'message_id'
        )
        where id = target.id;
      end if;

    when 'check_numbers' then
      perform whatsapp_private.digits_of_numbers(country_code, new.payload);

    else
      null;
  end case;

  if new.payload ? 'participants' then
    new.payload := jsonb_set(
      new.payload, '{participants}',
      whatsapp_private.jids_of_people(account.workspace_id, country_code, new.payload, 'participants')
    );
  end if;

  if new.type = 'send' then
    if new.payload ->> 'type' = 'contact' then
      new.payload := jsonb_set(
        new.payload, '{numbers}', whatsapp_private.digits_of_numbers(country_code, new.payload)
      );
    end if;
    named := whatsapp_private.conversation_to_send_to(
      account.id, account.workspace_id, country_code, new.payload ->> 'to'
    );
    select * into conversation from public.conversations where id = named;
    if new.payload ? 'quoted_message_id' then
      target := whatsapp_private.message_of_command(account.id, new.payload, 'quoted_message_id');
      if target.conversation_id <> conversation.id then
        raise exception 'payload.quoted_message_id is not a message of this conversation.' using errcode = '22023';
      end if;
      new.target_message_id := target.id;
    end if;
    new.conversation_id := conversation.id;
    new.chat_jid := conversation.chat_jid;
    new.message_id := gen_random_uuid();
    select * into row_of from whatsapp_private.row_of_send(new.payload);
    with counter as (
      update whatsapp_private.message_counters as counter
      set last_seq = counter.last_seq + 1
      where counter.integration_account_id = account.id
      returning counter.last_seq
    )
    insert into public.messages (
      id, workspace_id, integration_account_id, conversation_id, from_me, chat_jid, sender_id,
      tipo, conteudo, payload, mentions, quoted_message_id, status, sent_at, command_id, seq
    )
    select new.message_id, account.workspace_id, account.id, conversation.id, true,
      conversation.chat_jid, account.instance_id, new.payload ->> 'type', row_of.conteudo, row_of.more,
      array(select jsonb_array_elements_text(coalesce(new.payload -> 'mentions', '[]'))),
      target.whatsapp_message_id, 'pending', greatest(new.run_at, now()), new.id, counter.last_seq
    from counter;
  end if;
  return new;
end
$$;

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
