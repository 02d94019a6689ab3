-- What a command about a message changes in rows when it ends.

create function whatsapp_private.apply_message_change(p_command public.commands) returns void
language plpgsql
set search_path = ''
as $$
declare
  own_jid constant text := (
    select instance_id from public.integration_accounts where id = p_command.integration_account_id
  );
begin
  -- by this clock, not WhatsApp's seconds: of two changes in one second the later one wins
  case p_command.type
    when 'edit' then
      perform whatsapp_private.edit_message(
        p_command.target_message_id, p_command.payload ->> 'text',
        array(select jsonb_array_elements_text(coalesce(p_command.payload -> 'mentions', '[]'))), clock_timestamp()
      );
    when 'revoke' then
      perform whatsapp_private.revoke_message(p_command.target_message_id, own_jid, clock_timestamp());
    else
      perform whatsapp_private.keep_reaction(
        p_command.target_message_id, null, own_jid, p_command.payload ->> 'emoji', clock_timestamp()
      );
  end case;
end
$$;
comment on function whatsapp_private.apply_message_change(public.commands) is
  'An edit, revoke or react was taken by WhatsApp: so it is in the rows.';

create function whatsapp_private.renumber_changed_message() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  with counter as (
    update whatsapp_private.message_counters as counter
    set last_seq = counter.last_seq + 1
    where counter.integration_account_id = new.integration_account_id
    returning counter.last_seq
  )
  update public.messages set seq = counter.last_seq from counter where id = new.target_message_id;
  return null;
end
$$;
comment on function whatsapp_private.renumber_changed_message() is
  'Trigger: whoever catches up by seq gets messages that were edited or deleted, and calls that were refused. At the end of the transaction, because a batch of events hands out its numbers itself.';
create constraint trigger changed_messages_get_new_numbers
  after update of status on public.commands
  deferrable initially deferred
  for each row when (
    new.type in ('edit', 'revoke', 'reject_call') and new.status = 'done' and old.status <> 'done'
    and new.target_message_id is not null
  )
  execute function whatsapp_private.renumber_changed_message();

-- security definer: a member who cancels a command may not write messages
create function whatsapp_private.settle_command() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  is_final boolean;
begin
  -- what nobody notices twice is done again rather than left in doubt
  if new.status = 'unknown' and not whatsapp_private.has_outside_effect(new.type) and new.attempts < 5 then
    new.status := 'pending';
    new.finished_at := null;
    new.run_at := clock_timestamp() + interval '2 seconds';
    new.wait_code := 'retry';
  end if;
  is_final := new.status not in ('pending', 'running');

  if new.type in ('edit', 'revoke', 'react') and is_final then
    update public.messages set pending_changes = pending_changes - new.type
    where id = new.target_message_id
      and pending_changes #>> array[new.type, 'command_id'] = new.id::text;
    if new.status = 'done' then
      new.result := coalesce(new.result, '{}') || jsonb_build_object('message_id', new.target_message_id);
      perform whatsapp_private.apply_message_change(new);
    end if;

  elsif new.type = 'send' and new.status = 'done' and new.target_message_id is not null then
    -- what it answers may have had no id yet when it was asked for
    update public.messages as answer
    set quoted_message_id = quoted.whatsapp_message_id
    from public.messages as quoted
    where answer.id = new.message_id
      and quoted.id = new.target_message_id
      and answer.quoted_message_id is null;

  elsif new.status = 'done' then
    case new.type
      when 'reject_call' then
        update public.messages set payload = payload || jsonb_build_object(
          'state', whatsapp_private.state_of_call(payload ->> 'state', 'rejected')
        )
        where id = new.target_message_id;
      when 'block', 'unblock' then
        perform whatsapp_private.keep_block(
          new.integration_account_id, new.workspace_id, new.chat_jid, new.type = 'block'
        );
      when 'group_update' then
        update public.conversations set nome = new.payload ->> 'subject'
        where id = new.conversation_id
          and new.payload ? 'subject'
          and nome is distinct from new.payload ->> 'subject';
      when 'group_leave' then
        update public.conversations set archived = true, status = 'resolved' where id = new.conversation_id;
      when 'group_create' then
        new.conversation_id := whatsapp_private.keep_chat(
          new.integration_account_id, new.workspace_id, new.result ->> 'jid', 'group'
        );
        new.chat_jid := new.result ->> 'jid';
        new.result := new.result || jsonb_build_object('conversation_id', new.conversation_id);
        update public.conversations
        set nome = coalesce(new.result ->> 'subject', new.payload ->> 'subject'),
          status = 'open'
        where id = new.conversation_id;
      else
        null;
    end case;
  end if;
  return new;
end
$$;
comment on function whatsapp_private.settle_command() is
  'Trigger: what a command changed is in the rows when it is done, and what it meant to change is not announced any longer when it has ended.';
create trigger commands_take_effect_in_rows
  before update of status on public.commands
  for each row when (new.status is distinct from old.status and new.status <> 'running')
  execute function whatsapp_private.settle_command();

create function public.bridge_command_context(p_worker uuid, p_account uuid, p_epoch bigint, p_command uuid)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  command public.commands;
  target public.messages;
  country_code text;
  own_jid text;
begin
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  select * into command from public.commands where id = p_command and integration_account_id = p_account;
  if command.id is null then
    raise exception 'There is no such command.' using errcode = '22023';
  end if;
  select account.instance_id, whatsapp_private.settings_with_defaults(account.settings) ->> 'default_country_code'
  into own_jid, country_code
  from public.integration_accounts as account where account.id = p_account;
  select * into target from public.messages
  where id = command.target_message_id and integration_account_id = p_account;
  return jsonb_build_object(
    'target', case when command.target_message_id is not null then jsonb_build_object(
      'whatsapp_message_id', target.whatsapp_message_id,
      'sender_jid', case when target.from_me then own_jid else target.sender_id end,
      'from_me', coalesce(target.from_me, false),
      'tipo', target.tipo,
      'text', coalesce(target.conteudo, ''),
      'file', (
        select jsonb_build_object('path', file.path, 'mime_type', file.mime_type, 'file_name', file.file_name)
        from public.attachments as file
        where file.message_id = target.id and file.status = 'stored' and file.path is not null
      ),
      'call_id', coalesce(target.payload ->> 'call_id', target.whatsapp_message_id),
      'revoked', target.revoked_at is not null
    ) end,
    'numbers', case when command.type = 'check_numbers'
      then whatsapp_private.digits_of_numbers(country_code, command.payload) end
  );
end
$$;
comment on function public.bridge_command_context(uuid, uuid, bigint, uuid) is
  'What a command means beyond its payload: {target: {whatsapp_message_id, sender_jid, from_me, tipo, text, file: {path, mime_type, file_name}, call_id, revoked}, numbers: digits of check_numbers}. WB001 if the lease is lost.';
select whatsapp_private.give_to_the_bridge('public.bridge_command_context(uuid, uuid, bigint, uuid)');

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
