-- Whether a chat is archived, pinned or muted is changed by members here and by people on the phone,
-- and neither tells the other's word back: what the phone said last is kept, so that only what was
-- changed there changes the row.
create table whatsapp_private.chats_on_phone (
  conversation_id uuid primary key references public.conversations (id) on delete cascade,
  archived boolean not null,
  pinned boolean not null,
  muted_until timestamptz
);
comment on table whatsapp_private.chats_on_phone is
  'What the phone said last of a chat: by a history, or by a change. Of a chat without a row it said nothing.';
comment on column whatsapp_private.chats_on_phone.conversation_id is 'The conversation.';
comment on column whatsapp_private.chats_on_phone.archived is 'Whether it was archived there.';
comment on column whatsapp_private.chats_on_phone.pinned is 'Whether it was pinned there.';
comment on column whatsapp_private.chats_on_phone.muted_until is 'Until when it was muted there.';
revoke all on whatsapp_private.chats_on_phone from public, anon, authenticated, service_role;
grant select, insert, update, delete on whatsapp_private.chats_on_phone to service_role;

create function public.bridge_list_chats(p_worker uuid, p_account uuid, p_epoch bigint) returns jsonb
language plpgsql
set search_path = ''
as $$
begin
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  return coalesce(
    (
      select jsonb_agg(jsonb_build_object(
        'id', chat.id,
        'jids', case
          when chat.kind = 'group' then jsonb_build_array(chat.chat_jid)
          else to_jsonb(array_remove(array[lead.lid, lead.whatsapp_wa_id], null))
        end
      ))
      from public.conversations as chat
      left join public.leads as lead on lead.id = chat.lead_id
      where chat.integration_account_id = p_account and chat.kind in ('direct', 'group')
    ),
    '[]'
  );
end
$$;
comment on function public.bridge_list_chats(uuid, uuid, bigint) is
  'The chats of an account, [{id, jids}]: by which addresses WhatsApp may name each, the likeliest first. WB001 if the lease is lost.';

create function public.bridge_record_chats(p_worker uuid, p_account uuid, p_epoch bigint, p_chats jsonb) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  update public.conversations as kept
  set archived = case when told.archived <> told.was_archived then told.archived else kept.archived end,
    pinned = case when told.pinned <> told.was_pinned then told.pinned else kept.pinned end,
    muted_until = case
      when told.muted_until is distinct from told.was_muted_until then told.muted_until else kept.muted_until
    end
  from (
    select now_on_phone.*, coalesce(before.archived, false) as was_archived,
      coalesce(before.pinned, false) as was_pinned, before.muted_until as was_muted_until
    from jsonb_to_recordset(p_chats)
      as now_on_phone (id uuid, archived boolean, pinned boolean, muted_until timestamptz)
    left join whatsapp_private.chats_on_phone as before on before.conversation_id = now_on_phone.id
  ) as told
  where kept.id = told.id
    and kept.integration_account_id = p_account
    and (told.archived, told.pinned, told.muted_until)
      is distinct from (told.was_archived, told.was_pinned, told.was_muted_until);
  insert into whatsapp_private.chats_on_phone as before (conversation_id, archived, pinned, muted_until)
  select told.id, told.archived, told.pinned, told.muted_until
  from jsonb_to_recordset(p_chats) as told (id uuid, archived boolean, pinned boolean, muted_until timestamptz)
  join public.conversations as chat on chat.id = told.id and chat.integration_account_id = p_account
  on conflict (conversation_id) do update
  set archived = excluded.archived, pinned = excluded.pinned, muted_until = excluded.muted_until
  where (before.archived, before.pinned, before.muted_until)
    is distinct from (excluded.archived, excluded.pinned, excluded.muted_until);
end
$$;
comment on function public.bridge_record_chats(uuid, uuid, bigint, jsonb) is
  'These chats are so on the phone, [{id, archived, pinned, muted_until}]: what differs from what it said last changes the row. WB001 if the lease is lost.';

select whatsapp_private.give_to_the_bridge(
  'public.bridge_list_chats(uuid, uuid, bigint)',
  'public.bridge_record_chats(uuid, uuid, bigint, jsonb)'
);
