-- Who types now. Worthless a few seconds later, so it is in no table: it goes out by Realtime, on a
-- private channel of each account. Where Realtime has no channels of its own in the database (before
-- 2024), it is not told at all.
do $$
begin
  if to_regclass('realtime.messages') is null or to_regprocedure('realtime.topic()') is null then
    return;
  end if;
  create policy "members listen to whatsapp accounts of their workspaces" on realtime.messages
    for select to authenticated
    using (
      realtime.topic() in (
        select 'wa:' || account.id::text from public.integration_accounts as account
        where account.workspace_id in (select public.whatsapp_workspaces_of_caller('viewer'))
      )
    );
  -- policies are joined with "or": one that opens all channels of a project, as many have, would open these
  create policy "nobody else listens to whatsapp accounts" on realtime.messages
    as restrictive for select to authenticated
    using (
      coalesce(realtime.topic(), '') not like 'wa:%'
      or realtime.topic() in (
        select 'wa:' || account.id::text from public.integration_accounts as account
        where account.workspace_id in (select public.whatsapp_workspaces_of_caller('viewer'))
      )
    );
  create policy "only the bridge speaks for whatsapp accounts" on realtime.messages
    as restrictive for insert to authenticated
    with check (coalesce(realtime.topic(), '') not like 'wa:%');
  create policy "strangers have no part in channels of whatsapp accounts" on realtime.messages
    as restrictive for all to anon
    using (coalesce(realtime.topic(), '') not like 'wa:%')
    with check (coalesce(realtime.topic(), '') not like 'wa:%');
end
$$;

create function public.bridge_tell_typing(
  p_worker uuid, p_account uuid, p_epoch bigint, p_chat text, p_person jsonb, p_state text
) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  workspace constant uuid := whatsapp_private.fence(p_worker, p_account, p_epoch);
  lead public.leads;
  conversation uuid;
begin
  if p_state is null or p_state not in ('composing', 'recording', 'paused') then
    raise exception 'The state of typing is composing, recording or paused.' using errcode = '22023';
  end if;
  select known.* into lead from public.leads as known
  where known.workspace_id = workspace
    and (known.whatsapp_wa_id = p_person ->> 'phone_jid' or known.lid = p_person ->> 'lid')
  order by known.created_at limit 1;
  select chat.id into conversation from public.conversations as chat
  where chat.integration_account_id = p_account
    and case
      when p_chat like '%@g.us' then chat.chat_jid = p_chat
      else chat.lead_id = lead.id
    end;
  -- of somebody who never wrote, nobody looks at a conversation
  if conversation is null or to_regprocedure('realtime.send(jsonb,text,text,boolean)') is null then
    return false;
  end if;
  perform realtime.send(
    jsonb_build_object(
      'conversation_id', conversation,
      'lead_id', lead.id,
      'nome', whatsapp_private.display_name(lead.nome, lead.push_name, lead.business_name, lead.telefone),
      'state', p_state
    ),
    'typing', 'wa:' || p_account::text, true
  );
  return true;
end
$$;
comment on function public.bridge_tell_typing(uuid, uuid, bigint, text, jsonb, text) is
  'Somebody types (composing), speaks (recording) or stopped (paused): broadcast to the private channel wa:<account id> as event typing, {conversation_id, lead_id, nome, state}; kept nowhere. False if there is no such conversation, or Realtime cannot broadcast. WB001 if the lease is lost.';
select whatsapp_private.give_to_the_bridge('public.bridge_tell_typing(uuid, uuid, bigint, text, jsonb, text)');
