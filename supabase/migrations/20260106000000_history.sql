-- What a phone sends of the past when it is linked: people, chats and messages, in parts of some
-- hundred messages each. A part again changes nothing, and a live message that is here already stays.

create table whatsapp_private.history_people (
  integration_account_id uuid not null references public.integration_accounts (id) on delete cascade,
  jid text not null,
  other_jid text,
  push_name text,
  primary key (integration_account_id, jid)
);
comment on table whatsapp_private.history_people is
  'Names and pairs of addresses that came with a history. They are about everybody the phone knows; only who writes becomes a lead.';
comment on column whatsapp_private.history_people.integration_account_id is 'The account.';
comment on column whatsapp_private.history_people.jid is 'Phone JID or LID.';
comment on column whatsapp_private.history_people.other_jid is 'The same person''s other address.';
comment on column whatsapp_private.history_people.push_name is 'The name that the person gave.';

create table whatsapp_private.history_chats (
  conversation_id uuid primary key references public.conversations (id) on delete cascade,
  integration_account_id uuid not null references public.integration_accounts (id) on delete cascade,
  more_on_phone boolean
);
create index history_chats_by_account on whatsapp_private.history_chats (integration_account_id);
comment on table whatsapp_private.history_chats is
  'Conversations that a history told of: what it says beside messages (unread, archived, …) is taken over once.';
comment on column whatsapp_private.history_chats.conversation_id is 'The conversation.';
comment on column whatsapp_private.history_chats.integration_account_id is 'The account.';
comment on column whatsapp_private.history_chats.more_on_phone is
  'Whether the phone has messages of the wanted time that it did not send; null if it did not say.';

create table whatsapp_private.history_imports (
  integration_account_id uuid primary key references public.integration_accounts (id) on delete cascade,
  days integer not null,
  begun_at timestamptz not null default now()
);
comment on table whatsapp_private.history_imports is 'The last history that each account was sent.';
comment on column whatsapp_private.history_imports.integration_account_id is 'The account.';
comment on column whatsapp_private.history_imports.days is 'How many days of it were wanted: history_days at that time.';
comment on column whatsapp_private.history_imports.begun_at is 'When the phone was linked.';

revoke all on whatsapp_private.history_people, whatsapp_private.history_chats, whatsapp_private.history_imports
  from public, anon, authenticated, service_role;
grant select, insert, update, delete
  on whatsapp_private.history_people, whatsapp_private.history_chats, whatsapp_private.history_imports
  to service_role;

create function whatsapp_private.keep_history_people(p_account uuid, p_workspace uuid, p_people jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  known record;
begin
  insert into whatsapp_private.history_people as kept (integration_account_id, jid, other_jid, push_name)
  select p_account, told.jid, max(told.other_jid), max(told.push_name)
  from (
    select person ->> 'phone_jid' as jid, person ->> 'lid' as other_jid,
      left(nullif(btrim(person ->> 'push_name'), ''), 200) as push_name
    from jsonb_array_elements(p_people) as person
    union all
    select person ->> 'lid', person ->> 'phone_jid', left(nullif(btrim(person ->> 'push_name'), ''), 200)
    from jsonb_array_elements(p_people) as person
  ) as told
  where told.jid is not null
  group by told.jid
  on conflict (integration_account_id, jid) do update
  set other_jid = coalesce(excluded.other_jid, kept.other_jid),
    push_name = coalesce(excluded.push_name, kept.push_name)
  where (kept.other_jid, kept.push_name) is distinct from (
    coalesce(excluded.other_jid, kept.other_jid), coalesce(excluded.push_name, kept.push_name)
  );

  -- who is a lead already learns it at once
  for known in
    select distinct person ->> 'phone_jid' as phone_jid, person ->> 'lid' as lid
    from jsonb_array_elements(p_people) as person
    join public.leads as lead
      on lead.workspace_id = p_workspace
      and (lead.whatsapp_wa_id = person ->> 'phone_jid' or lead.lid = person ->> 'lid')
    where (person ->> 'phone_jid' is not null and lead.whatsapp_wa_id is null)
      or (person ->> 'lid' is not null and lead.lid is null)
      or (nullif(btrim(person ->> 'push_name'), '') is not null and lead.push_name is null)
  loop
    perform whatsapp_private.keep_history_person(
      p_account, p_workspace, jsonb_build_object('phone_jid', known.phone_jid, 'lid', known.lid)
    );
  end loop;
end
$$;
comment on function whatsapp_private.keep_history_people(uuid, uuid, jsonb) is
  'Notes names and addresses; makes no lead, but completes those that are there.';

create function whatsapp_private.keep_history_person(p_account uuid, p_workspace uuid, p_person jsonb) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  phone text := p_person ->> 'phone_jid';
  hidden text := p_person ->> 'lid';
  told_name text := nullif(btrim(p_person ->> 'push_name'), '');
begin
  select coalesce(phone, by_lid.other_jid), coalesce(hidden, by_phone.other_jid),
    coalesce(told_name, by_phone.push_name, by_lid.push_name)
  into phone, hidden, told_name
  from (select) as one
  left join whatsapp_private.history_people as by_phone
    on by_phone.integration_account_id = p_account and by_phone.jid = phone
  left join whatsapp_private.history_people as by_lid
    on by_lid.integration_account_id = p_account and by_lid.jid = hidden;
  -- a name of the past does not take the place of one that is known
  if exists (
    select from public.leads as lead
    where lead.workspace_id = p_workspace
      and (lead.whatsapp_wa_id = phone or lead.lid = hidden)
      and lead.push_name is not null
  ) then
    told_name := null;
  end if;
  return whatsapp_private.keep_lead(p_workspace, phone, hidden, told_name);
end
$$;
comment on function whatsapp_private.keep_history_person(uuid, uuid, jsonb) is
  'The lead of a person of the past, completed with what histories told.';

create function whatsapp_private.record_history_chat(
  p_account uuid, p_workspace uuid, p_chat jsonb, p_next_seq bigint, out next_seq bigint, out recorded integer
)
language plpgsql
set search_path = ''
as $$
declare
  address constant text := p_chat #>> '{chat,jid}';
  is_direct constant boolean := p_chat #>> '{chat,kind}' = 'direct';
  chat_name constant text := nullif(btrim(p_chat ->> 'name'), '');
  messages constant jsonb := coalesce(nullif(p_chat -> 'messages', 'null'), '[]');
  peer_lead uuid;
  conversation uuid;
  is_new boolean := false;
  is_first boolean;
  sender jsonb;
  leads jsonb := '{}';
  placeholder jsonb;
  latest record;
begin
  next_seq := p_next_seq;
  recorded := 0;
  if is_direct then
    if jsonb_array_length(messages) = 0 then
      select conversation_of_lead.id into conversation
      from public.leads as lead
      join public.conversations as conversation_of_lead
        on conversation_of_lead.integration_account_id = p_account and conversation_of_lead.lead_id = lead.id
      where lead.workspace_id = p_workspace
        and (lead.whatsapp_wa_id = p_chat #>> '{peer,phone_jid}' or lead.lid = p_chat #>> '{peer,lid}')
      limit 1;
    else
      peer_lead := whatsapp_private.keep_history_person(p_account, p_workspace, whatsapp_private.peer_of(p_chat));
      select kept.id into conversation from public.conversations as kept
      where kept.integration_account_id = p_account and kept.lead_id = peer_lead;
      if conversation is null then
        is_new := true;
        conversation := whatsapp_private.keep_direct_conversation(p_account, p_workspace, peer_lead);
      end if;
    end if;
  else
    select kept.id into conversation from public.conversations as kept
    where kept.integration_account_id = p_account and kept.chat_jid = address;
    if conversation is null and jsonb_array_length(messages) > 0 then
      is_new := true;
      conversation := whatsapp_private.keep_chat(p_account, p_workspace, address, p_chat #>> '{chat,kind}');
    end if;
  end if;
  if conversation is null then
    return;  -- nothing of the wanted time
  end if;

  insert into whatsapp_private.history_chats as kept (conversation_id, integration_account_id, more_on_phone)
  values (conversation, p_account, (p_chat ->> 'more_on_phone')::boolean)
  on conflict (conversation_id) do nothing;
  is_first := found;
  if is_first then
    insert into whatsapp_private.chats_on_phone (conversation_id, archived, pinned, muted_until)
    values (
      conversation, (p_chat ->> 'archived')::boolean, (p_chat ->> 'pinned')::boolean,
      (p_chat ->> 'muted_until')::timestamptz
    )
    on conflict (conversation_id) do nothing;
    update public.conversations as kept
    set nao_lidas = greatest(kept.nao_lidas, (p_chat ->> 'unread')::integer),
      archived = kept.archived or (p_chat ->> 'archived')::boolean,
      pinned = kept.pinned or (p_chat ->> 'pinned')::boolean,
      muted_until = coalesce(kept.muted_until, (p_chat ->> 'muted_until')::timestamptz),
      -- a ticket for what nobody read; the rest of the past is settled
      status = case when is_new and coalesce((p_chat ->> 'unread')::integer, 0) = 0 then 'resolved' else kept.status end
    where kept.id = conversation;
  else
    update whatsapp_private.history_chats as kept
    set more_on_phone = coalesce(kept.more_on_phone and (p_chat ->> 'more_on_phone')::boolean,
      kept.more_on_phone, (p_chat ->> 'more_on_phone')::boolean)
    where kept.conversation_id = conversation
      and (p_chat ->> 'more_on_phone')::boolean is distinct from kept.more_on_phone;
  end if;
  if chat_name is not null then
    if is_direct then
      update public.leads as lead set nome = left(chat_name, 200)
      from public.conversations as kept
      where kept.id = conversation and lead.id = kept.lead_id
        and (lead.nome is null or lead.nome = lead.push_name)
        and lead.nome is distinct from left(chat_name, 200);
    else
      update public.conversations as kept set nome = chat_name where kept.id = conversation and kept.nome is null;
    end if;
  end if;
  if jsonb_array_length(messages) = 0 then
    return;
  end if;

  if not is_direct then
    for sender in
      select distinct on (coalesce(message #>> '{sender,phone_jid}', message #>> '{sender,lid}')) message -> 'sender'
      from jsonb_array_elements(messages) as message
      where not (message ->> 'from_me')::boolean
      order by coalesce(message #>> '{sender,phone_jid}', message #>> '{sender,lid}'),
        message #>> '{sender,push_name}' nulls last
    loop
      leads := leads || jsonb_build_object(
        coalesce(sender ->> 'phone_jid', sender ->> 'lid'),
        whatsapp_private.keep_history_person(p_account, p_workspace, sender)
      );
    end loop;
  end if;

  with told as materialized (
    select distinct on ((message ->> 'from_me')::boolean, message ->> 'whatsapp_message_id')
      message,
      (message ->> 'from_me')::boolean as is_mine,
      (message ->> 'sent_at')::timestamptz as sent_at,
      case
        when (message ->> 'from_me')::boolean then null
        when is_direct then peer_lead
        else (leads ->> coalesce(message #>> '{sender,phone_jid}', message #>> '{sender,lid}'))::uuid
      end as sender_lead
    from jsonb_array_elements(messages) as message
    order by (message ->> 'from_me')::boolean, message ->> 'whatsapp_message_id'
  ),
  fresh as (
    select told.*, row_number() over (order by told.sent_at, told.message ->> 'whatsapp_message_id') as place
    from told
    where not exists (
      select from public.messages as known
      where known.conversation_id = conversation
        and known.from_me = told.is_mine
        and known.whatsapp_message_id = told.message ->> 'whatsapp_message_id'
    )
  ),
  inserted as (
    insert into public.messages (
      workspace_id, integration_account_id, conversation_id, whatsapp_message_id, from_me, chat_jid,
      sender_id, sender_lead_id, sender_nome, tipo, conteudo, quoted_message_id, mentions, payload,
      status, sent_at, revoked_at, seq
    )
    select p_workspace, p_account, conversation, fresh.message ->> 'whatsapp_message_id', fresh.is_mine, address,
      coalesce(
        fresh.message ->> 'sender_jid', fresh.message #>> '{sender,phone_jid}', fresh.message #>> '{sender,lid}'
      ),
      fresh.sender_lead,
      coalesce(
        nullif(btrim(fresh.message #>> '{sender,push_name}'), ''), lead.push_name, lead.business_name, lead.nome
      ),
      fresh.message ->> 'tipo',
      fresh.message ->> 'conteudo',
      fresh.message ->> 'quoted_whatsapp_message_id',
      array(select jsonb_array_elements_text(coalesce(nullif(fresh.message -> 'mentions', 'null'), '[]'))),
      coalesce(nullif(fresh.message -> 'payload', 'null'), '{}'),
      case when fresh.is_mine then fresh.message ->> 'status' else 'delivered' end,
      fresh.sent_at,
      case when (fresh.message ->> 'revoked')::boolean then fresh.sent_at end,
      p_next_seq + fresh.place - 1
    from fresh
    left join public.leads as lead on lead.id = fresh.sender_lead
    returning id
  )
  select count(*)::integer into recorded from inserted;
  next_seq := p_next_seq + recorded;

  perform whatsapp_private.keep_attachment(kept.id, p_account, p_workspace, message -> 'attachment')
  from jsonb_array_elements(messages) as message
  join public.messages as kept
    on kept.conversation_id = conversation
    and kept.from_me = (message ->> 'from_me')::boolean
    and kept.whatsapp_message_id = message ->> 'whatsapp_message_id'
  where jsonb_typeof(message -> 'attachment') = 'object' and kept.seq >= p_next_seq;

  perform whatsapp_private.apply_early_receipts(kept.id), whatsapp_private.apply_early_changes(kept.id)
  from (
    select early.whatsapp_message_id as id
    from whatsapp_private.early_receipts as early
    join jsonb_array_elements(messages) as message
      on message ->> 'whatsapp_message_id' = early.whatsapp_message_id
    where early.integration_account_id = p_account
    union
    select early.whatsapp_message_id
    from whatsapp_private.early_changes as early
    join jsonb_array_elements(messages) as message
      on message ->> 'whatsapp_message_id' = early.whatsapp_message_id
    where early.integration_account_id = p_account
  ) as waiting
  join public.messages as kept
    on kept.conversation_id = conversation
    and kept.whatsapp_message_id = waiting.id
    and kept.seq >= p_next_seq;

  -- of what was here already: evidence of what became of own messages, texts nobody could decrypt
  update public.messages as known
  set status = message ->> 'status', error_code = null
  from jsonb_array_elements(messages) as message
  where known.conversation_id = conversation
    and known.from_me and (message ->> 'from_me')::boolean
    and known.whatsapp_message_id = message ->> 'whatsapp_message_id'
    and whatsapp_private.rank_of_message_status(known.status)
      < whatsapp_private.rank_of_message_status(message ->> 'status');
  for placeholder in
    select message || '{"kind": "message"}'
    from jsonb_array_elements(messages) as message
    join public.messages as known
      on known.conversation_id = conversation
      and known.from_me = (message ->> 'from_me')::boolean
      and known.whatsapp_message_id = message ->> 'whatsapp_message_id'
    where known.tipo = 'unsupported'
      and known.payload @> '{"placeholder": true}'
      and not (message ->> 'revoked')::boolean
  loop
    select filled.p_seq into next_seq
    from whatsapp_private.record_message(p_account, p_workspace, placeholder, next_seq) as filled;
    recorded := recorded + 1;
  end loop;

  select message ->> 'tipo' as tipo, message ->> 'conteudo' as conteudo, (message ->> 'sent_at')::timestamptz as sent_at
  into latest
  from jsonb_array_elements(messages) as message
  where message ->> 'tipo' not in ('reaction', 'system')
  order by (message ->> 'sent_at')::timestamptz desc, message ->> 'whatsapp_message_id' desc
  limit 1;
  update public.conversations as kept
  set ultima_mensagem = whatsapp_private.preview_of(latest.tipo, latest.conteudo),
    ultima_mensagem_em = latest.sent_at
  where kept.id = conversation
    and latest.sent_at is not null
    and (kept.ultima_mensagem_em is null or kept.ultima_mensagem_em < latest.sent_at);
end
$$;
comment on function whatsapp_private.record_history_chat(uuid, uuid, jsonb, bigint) is
  'A chat of the past with some of its messages, which make no unread count and open no ticket by themselves. p_next_seq is the next free number, and comes back so.';

create function public.bridge_record_history(p_worker uuid, p_account uuid, p_epoch bigint, p_history jsonb)
returns jsonb
language plpgsql
set search_path = ''
-- connections keep their plans: one made while the tables are empty would read them whole later on
set enable_seqscan = off
as $$
declare
  workspace uuid;
  chat jsonb;
  place bigint := 0;
  seq bigint;
  first_seq bigint;
  held_since timestamptz;
  recorded_here integer;
  recorded integer := 0;
  groups_unknown jsonb;
begin
  if p_history is null or jsonb_typeof(p_history) <> 'object' then
    raise exception 'A history is a JSON object.' using errcode = '22023';
  end if;
  -- One history of a workspace at a time, so that somebody who inserts a command waits for one call
  -- at most, however many phones were just linked. Before everything else: whoever waits for this
  -- turn holds nothing that others need.
  perform pg_advisory_xact_lock(hashtextextended('whatsapp histories of ' || account.workspace_id::text, 0))
  from public.integration_accounts as account where account.id = p_account;
  workspace := whatsapp_private.fence(p_worker, p_account, p_epoch);
  begin
    perform whatsapp_private.lock_identities(workspace, true);
    held_since := clock_timestamp();
    select counter.last_seq + 1 into first_seq
    from whatsapp_private.message_counters as counter
    where counter.integration_account_id = p_account
    for update;
    seq := first_seq;
    perform whatsapp_private.keep_history_people(p_account, workspace, coalesce(p_history -> 'people', '[]'));
    for chat, place in
      select element.value, element.ordinality
      from jsonb_array_elements(coalesce(p_history -> 'chats', '[]')) with ordinality as element
    loop
      select told.next_seq, told.recorded into seq, recorded_here
      from whatsapp_private.record_history_chat(p_account, workspace, chat, seq) as told;
      recorded := recorded + recorded_here;
    end loop;
  exception
    -- what is wrong with a row must not take the row's text into a log: messages only, no details
    when data_exception or integrity_constraint_violation then
      raise exception 'Chat % of a history was refused: %', place, sqlerrm using errcode = '22023';
  end;
  if seq > first_seq then
    update whatsapp_private.message_counters set last_seq = seq - 1 where integration_account_id = p_account;
  end if;
  if jsonb_array_length(coalesce(p_history -> 'events', '[]')) > 0 then
    perform public.bridge_record_events(p_worker, p_account, p_epoch, p_history -> 'events');
  end if;

  update public.integration_accounts
  set sync_status = 'running',
    sync_progress = greatest(sync_progress, least((p_history ->> 'progress')::integer, 99))
  where id = p_account
    and sync_status <> 'done'
    and (
      sync_status <> 'running' or sync_progress < least((p_history ->> 'progress')::integer, 99)
    );
  select coalesce(jsonb_agg(distinct conversation.chat_jid), '[]') into groups_unknown
  from jsonb_array_elements(coalesce(p_history -> 'chats', '[]')) as told
  join public.conversations as conversation
    on conversation.integration_account_id = p_account
    and conversation.chat_jid = told #>> '{chat,jid}'
  where conversation.kind = 'group' and conversation.nome is null;
  return jsonb_build_object(
    'recorded', recorded,
    'groups_unknown', groups_unknown,
    'held_s', extract(epoch from clock_timestamp() - held_since)
  );
end
$$;
comment on function public.bridge_record_history(uuid, uuid, bigint, jsonb) is
  'Records parts of a history, {progress, people, chats: [{chat, peer, name, unread, archived, pinned, muted_until, more_on_phone, messages}], events}, in one transaction; again and again has the effect of once. sync_progress only rises. Returns {recorded, groups_unknown, held_s: how long other writers of the workspace had to wait}. WB001 if the lease is lost, 22023 if something is refused (then nothing is recorded).';

create function public.bridge_begin_history(p_worker uuid, p_account uuid, p_epoch bigint) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  update whatsapp_private.history_chats set more_on_phone = null
  where integration_account_id = p_account and more_on_phone is not null;
  update public.integration_accounts
  set sync_status = 'running', sync_progress = 0, sync_error = null
  where id = p_account;
  insert into whatsapp_private.history_imports (integration_account_id, days)
  select id, (whatsapp_private.settings_with_defaults(settings) ->> 'history_days')::integer
  from public.integration_accounts where id = p_account
  on conflict (integration_account_id) do update set days = excluded.days, begun_at = now();
end
$$;
comment on function public.bridge_begin_history(uuid, uuid, bigint) is
  'A phone was linked: its history is to come. The only way in which sync_progress falls. WB001 if the lease is lost.';

create function public.bridge_history_state(p_worker uuid, p_account uuid, p_epoch bigint, p_days integer)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  account public.integration_accounts;
  since constant timestamptz := now() - make_interval(days => p_days);
begin
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  select * into account from public.integration_accounts where id = p_account;
  return jsonb_build_object(
    'sync_status', account.sync_status,
    'sync_progress', account.sync_progress,
    'days', coalesce(
      (select days from whatsapp_private.history_imports where integration_account_id = p_account), 0
    ),
    'conversations', (
      select count(*) from public.conversations
      where integration_account_id = p_account and ultima_mensagem_em >= since
    ),
    'messages', (
      select count(*) from public.messages as message
      join public.conversations as conversation on conversation.id = message.conversation_id
      where conversation.integration_account_id = p_account and message.sent_at >= since
    ),
    'incomplete', (
      select count(*) from whatsapp_private.history_chats
      where integration_account_id = p_account and more_on_phone
    )
  );
end
$$;
comment on function public.bridge_history_state(uuid, uuid, bigint, integer) is
  'How far the history is: {sync_status, sync_progress, days (that were wanted when the phone was linked, 0 = never), conversations and messages of the last p_days, incomplete: conversations of which the phone has more}. WB001 if the lease is lost.';

create function public.bridge_finish_history(p_worker uuid, p_account uuid, p_epoch bigint, p_warning text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  incomplete bigint;
  chats bigint;
begin
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  select count(*) filter (where more_on_phone), count(*) into incomplete, chats
  from whatsapp_private.history_chats where integration_account_id = p_account;
  update public.integration_accounts
  set sync_status = 'done',
    sync_progress = 100,
    sync_error = coalesce(p_warning, case when incomplete > 0 then format(
      'WhatsApp sent less than was asked for of %s of %s conversations: the phone has older messages.', incomplete, chats
    ) end)
  where id = p_account;
end
$$;
comment on function public.bridge_finish_history(uuid, uuid, bigint, text) is
  'Everything that the phone sent is recorded: sync_status done, sync_progress 100; sync_error says what is missing, if something is. WB001 if the lease is lost.';

select whatsapp_private.give_to_the_bridge(
  'public.bridge_record_history(uuid, uuid, bigint, jsonb)',
  'public.bridge_begin_history(uuid, uuid, bigint)',
  'public.bridge_history_state(uuid, uuid, bigint, integer)',
  'public.bridge_finish_history(uuid, uuid, bigint, text)'
);
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
