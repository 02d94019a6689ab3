-- What happens when a row is inserted into `commands`: everything that can be known to be wrong is
-- refused at once, with a sentence; and a `send` gets its message row, so that the thread shows it
-- before WhatsApp does.

create function whatsapp_private.payload_keys_problem(p_payload jsonb, p_required text[], p_optional text[])
returns text
language sql immutable
set search_path = ''
as $$
  select coalesce(
    (
      select 'payload.' || required.key || ' is missing.'
      from unnest(p_required) with ordinality as required (key, place)
      where not p_payload ? required.key
      order by required.place limit 1
    ),
    (
      select 'payload has a key that is not known here: ' || quote_literal(left(given.key, 40)) || '.'
      from jsonb_object_keys(p_payload) as given (key)
      where given.key <> all (p_required || p_optional)
      order by given.key limit 1
    )
  )
$$;
comment on function whatsapp_private.payload_keys_problem(jsonb, text[], text[]) is
  'Which key of a payload is missing or unknown, in one sentence; null if none.';

create function whatsapp_private.is_uuid(p_value text) returns boolean
language sql immutable
set search_path = ''
as $$
  select p_value ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
$$;
comment on function whatsapp_private.is_uuid(text) is 'Whether a text is a UUID in its usual form.';

create function whatsapp_private.phone_digits(p_spelling text, p_country_code text) returns text
language plpgsql immutable
set search_path = ''
as $$
declare
  spelling text := btrim(p_spelling);
  digits text;
  is_international boolean;
begin
  if char_length(spelling) > 64 then
    return null;
  end if;
  spelling := regexp_replace(spelling, '^(tel|whatsapp):', '', 'i');
  if spelling !~ '^\s*\+?[0-9\s().\-‐‑–/]+$' then
    return null;
  end if;
  spelling := replace(spelling, '(0)', '');  -- +49 (0)151 …
  is_international := spelling ~ '^\s*(\+|00)';
  digits := regexp_replace(spelling, '[^0-9]', '', 'g');

  if is_international then
    digits := regexp_replace(digits, '^0+', '');
  elsif digits ~ '^0' then
    digits := p_country_code || regexp_replace(digits, '^0+', '');
  elsif char_length(digits) >= 12 then
    null;  -- too long for a number without its country
  elsif p_country_code = '55' then
    -- Brazil: area code and 8 digits, or area code and 9 digits that begin with 9
    if char_length(digits) = 10 or (char_length(digits) = 11 and substr(digits, 3, 1) = '9') then
      digits := p_country_code || digits;
    end if;
  elsif not (
    starts_with(digits, p_country_code)
    and char_length(digits) - char_length(p_country_code) >= 10
  ) then
    digits := p_country_code || digits;
  end if;

  if digits ~ '^[1-9][0-9]{7,14}$' then
    return digits;
  end if;
  return null;
end
$$;
comment on function whatsapp_private.phone_digits(text, text) is
  'A phone number in any common spelling as digits with country code; null if it is none. Numbers without a country get the given one.';

create function whatsapp_private.conversation_to_send_to(
  p_account uuid, p_workspace uuid, p_country_code text, p_to text
) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  target text := btrim(p_to);
  named uuid;
  found_kind text;
  wanted_phone_jid text;
  wanted_lid text;
begin
  if whatsapp_private.is_uuid(target) then
    named := coalesce(
      (select new_id from whatsapp_private.merged_rows where old_id = target::uuid and workspace_id = p_workspace),
      target::uuid
    );
    select conversation.kind into found_kind from public.conversations as conversation
    where conversation.id = named and conversation.integration_account_id = p_account;
    if found_kind in ('direct', 'group') then
      return named;
    elsif found_kind is not null then
      raise exception 'Messages cannot be sent to a conversation of kind %.', found_kind using errcode = '22023';
    end if;
    if exists (select from public.leads where id = named and workspace_id = p_workspace) then
      return whatsapp_private.keep_direct_conversation(p_account, p_workspace, named);
    end if;
    raise exception 'payload.to is not the id of a lead or conversation of this account.' using errcode = '22023';
  end if;

  if strpos(target, '@') > 0 then
    if target ~ '^[1-9][0-9]{7,14}@(s\.whatsapp\.net|c\.us)$' then
      wanted_phone_jid := split_part(target, '@', 1) || '@s.whatsapp.net';
    elsif target ~ '^[0-9]{1,20}@lid$' then
      wanted_lid := target;
    elsif target ~ '^[0-9]{5,25}(-[0-9]{5,20})?@g\.us$' then
      return whatsapp_private.keep_chat(p_account, p_workspace, target, 'group');
    else
      raise exception 'payload.to is not the JID of a person or a group.' using errcode = '22023';
    end if;
  else
    wanted_phone_jid := whatsapp_private.phone_digits(target, p_country_code) || '@s.whatsapp.net';
    if wanted_phone_jid is null then
      raise exception 'payload.to is not a phone number, a JID, a lead id or a conversation id.'
        using errcode = '22023';
    end if;
  end if;

  return whatsapp_private.keep_direct_conversation(
    p_account, p_workspace,
    whatsapp_private.keep_lead(
      p_workspace, whatsapp_private.known_spelling(p_workspace, wanted_phone_jid), wanted_lid, null
    )
  );
end
$$;
comment on function whatsapp_private.conversation_to_send_to(uuid, uuid, text, text) is
  'The conversation that payload.to means, made if need be; the caller has the identity lock. Ids of other tenants are as unknown as those of nobody.';

create function whatsapp_private.is_after_a_year(p_time timestamptz) returns boolean
language sql stable
set search_path = ''
as $$ select not isfinite(p_time) or p_time > now() + interval '366 days' $$;
comment on function whatsapp_private.is_after_a_year(timestamptz) is 'Whether a time is too far ahead to be meant.';

create function whatsapp_private.submit_command() returns trigger
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
      new.payload := whatsapp_private.cards_with_digits(country_code, new.payload);
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
      conversation.chat_jid, account.instance_id, new.payload ->> 'type', row_of.conteudo,
      row_of.more || jsonb_strip_nulls(jsonb_build_object('disappears_after_s', conversation.disappears_after_s)),
      array(select jsonb_array_elements_text(coalesce(new.payload -> 'mentions', '[]'))),
      target.whatsapp_message_id, 'pending', greatest(new.run_at, now()), new.id, counter.last_seq
    from counter;
  end if;
  return new;
end
$$;
comment on function whatsapp_private.submit_command() is
  'Trigger: refuses a bad command with a sentence, fills in what the bridge needs, and makes the message row of a send.';
create trigger commands_are_checked_and_prepared
  before insert on public.commands
  for each row execute function whatsapp_private.submit_command();

-- security definer: counts what the caller may not see, and reads the limits
create function whatsapp_private.limit_pending_commands() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  allowed constant integer := (select pending_commands_per_account from whatsapp_private.limits);
  account uuid;
begin
  for account in select distinct integration_account_id from inserted loop
    -- not exact between two inserts at once, and need not be
    if (
      select count(*) from (
        select from public.commands
        where integration_account_id = account and status = 'pending'
        limit allowed + 1
      ) as waiting
    ) > allowed then
      raise exception 'An account has at most % pending commands: wait until some are done.', allowed
        using errcode = '23514',
          hint = 'Insert fewer at a time, or raise pending_commands_per_account in whatsapp_private.limits.';
    end if;
  end loop;
  return null;
end
$$;
comment on function whatsapp_private.limit_pending_commands() is
  'Trigger: the queue of an account has an end, because claims for all accounts pass by it.';
create trigger commands_do_not_pile_up
  after insert on public.commands
  referencing new table as inserted
  for each statement execute function whatsapp_private.limit_pending_commands();

-- security definer: members may cancel a command, and not write messages
create function whatsapp_private.cancel_command() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if old.status <> 'pending' then
    raise exception 'Only a pending command can be cancelled.' using errcode = '22023';
  end if;
  new.finished_at := now();
  update public.messages set status = 'failed', error_code = 'cancelled'
  where id = old.message_id and status = 'pending';
  return new;
end
$$;
comment on function whatsapp_private.cancel_command() is
  'Trigger: a cancelled send takes its message row along.';
create trigger commands_are_cancelled_with_their_message
  before update of status on public.commands
  for each row when (new.status = 'cancelled' and old.status is distinct from 'cancelled')
  execute function whatsapp_private.cancel_command();

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
