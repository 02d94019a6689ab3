-- As in 20260101001400, and what a history told of the second conversation is known of the first.
create or replace function whatsapp_private.merge_conversations(p_keep uuid, p_drop uuid) returns void
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
    avatar_url = coalesce(kept.avatar_url, gone.avatar_url)
  where kept.id = p_keep;

  update whatsapp_private.merged_rows set new_id = p_keep where new_id = p_drop;
  insert into whatsapp_private.merged_rows (old_id, new_id, workspace_id)
  values (p_drop, p_keep, gone.workspace_id);
end
$$;
