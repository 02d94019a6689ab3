-- Whoever reacted, voted or edited is one person, too, when two leads turn out to be one.

create or replace function whatsapp_private.absorb_message(p_keep uuid, p_drop uuid) returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into public.message_receipts as receipt
    (message_id, lead_id, workspace_id, delivered_at, read_at, played_at)
  select p_keep, other.lead_id, other.workspace_id, other.delivered_at, other.read_at, other.played_at
  from public.message_receipts as other
  where other.message_id = p_drop
  on conflict (message_id, lead_id) do update set
    delivered_at = least(receipt.delivered_at, excluded.delivered_at),
    read_at = least(receipt.read_at, excluded.read_at),
    played_at = least(receipt.played_at, excluded.played_at);
  perform whatsapp_private.keep_reaction(
    p_keep, other.lead_id, other.sender_id, other.emoji, other.reacted_at
  )
  from public.message_reactions as other where other.message_id = p_drop;
  perform whatsapp_private.keep_poll_vote(
    p_keep, other.lead_id, other.sender_id, other.option_hashes, other.voted_at
  )
  from public.poll_votes as other where other.message_id = p_drop;
  perform whatsapp_private.edit_message(p_keep, other.conteudo, other.mentions, other.edited_at)
  from public.messages as other where other.id = p_drop and other.edited_at is not null;
  perform whatsapp_private.revoke_message(p_keep, other.payload ->> 'revoked_by', other.revoked_at)
  from public.messages as other where other.id = p_drop and other.revoked_at is not null;
  update public.attachments set message_id = p_keep where message_id = p_drop;
  update public.commands set message_id = p_keep where message_id = p_drop;
  update public.messages as kept
  set status = other.status
  from public.messages as other
  where kept.id = p_keep
    and other.id = p_drop
    and whatsapp_private.rank_of_message_status(other.status)
      > whatsapp_private.rank_of_message_status(kept.status);
  delete from public.messages where id = p_drop;
end
$$;

create or replace function whatsapp_private.merge_leads(p_keep uuid, p_drop uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
  pair record;
  polls uuid[];
  gone public.leads;
begin
  for pair in
    select other.id as other_id, kept.id as kept_id, kept.created_at <= other.created_at as kept_is_older
    from public.conversations as other
    left join public.conversations as kept
      on kept.integration_account_id = other.integration_account_id and kept.lead_id = p_keep
    where other.lead_id = p_drop
  loop
    if pair.kept_id is null then
      update public.conversations set lead_id = p_keep where id = pair.other_id;
    elsif pair.kept_is_older then
      perform whatsapp_private.merge_conversations(pair.kept_id, pair.other_id);
    else
      perform whatsapp_private.merge_conversations(pair.other_id, pair.kept_id);
      update public.conversations set lead_id = p_keep where id = pair.other_id;
    end if;
  end loop;

  update public.messages set sender_lead_id = p_keep where sender_lead_id = p_drop;
  insert into public.message_receipts as receipt
    (message_id, lead_id, workspace_id, delivered_at, read_at, played_at)
  select other.message_id, p_keep, other.workspace_id, other.delivered_at, other.read_at, other.played_at
  from public.message_receipts as other
  where other.lead_id = p_drop
  on conflict (message_id, lead_id) do update set
    delivered_at = least(receipt.delivered_at, excluded.delivered_at),
    read_at = least(receipt.read_at, excluded.read_at),
    played_at = least(receipt.played_at, excluded.played_at);
  delete from public.message_receipts where lead_id = p_drop;

  update whatsapp_private.early_receipts set peer_lead_id = p_keep where peer_lead_id = p_drop;
  delete from whatsapp_private.early_receipts as other
  using whatsapp_private.early_receipts as kept
  where other.reader_lead_id = p_drop
    and kept.reader_lead_id = p_keep
    and kept.integration_account_id = other.integration_account_id
    and kept.whatsapp_message_id = other.whatsapp_message_id
    and kept.type = other.type
    and kept.chat_jid = other.chat_jid;
  update whatsapp_private.early_receipts set reader_lead_id = p_keep where reader_lead_id = p_drop;

  perform whatsapp_private.keep_reaction(
    other.message_id, p_keep, other.sender_id, other.emoji, other.reacted_at
  )
  from public.message_reactions as other where other.lead_id = p_drop;
  delete from public.message_reactions where lead_id = p_drop;
  polls := array(select message_id from public.poll_votes where lead_id = p_drop);
  perform whatsapp_private.keep_poll_vote(
    other.message_id, p_keep, other.sender_id, other.option_hashes, other.voted_at
  )
  from public.poll_votes as other where other.lead_id = p_drop;
  delete from public.poll_votes where lead_id = p_drop;
  perform whatsapp_private.count_poll_votes(poll) from unnest(polls) as poll;

  update whatsapp_private.early_changes set peer_lead_id = p_keep where peer_lead_id = p_drop;
  delete from whatsapp_private.early_changes as other
  using whatsapp_private.early_changes as kept
  where other.sender_lead_id = p_drop
    and kept.sender_lead_id = p_keep
    and kept.integration_account_id = other.integration_account_id
    and kept.whatsapp_message_id = other.whatsapp_message_id
    and kept.kind = other.kind
    and kept.chat_jid = other.chat_jid
    and kept.from_me = other.from_me
    and kept.happened_at = other.happened_at
    and kept.details = other.details;
  update whatsapp_private.early_changes set sender_lead_id = p_keep where sender_lead_id = p_drop;
  -- a change that waited because its sender was taken for somebody else takes effect now
  perform whatsapp_private.apply_early_changes(message.id)
  from whatsapp_private.early_changes as early
  join public.messages as message
    on message.integration_account_id = early.integration_account_id
    and message.whatsapp_message_id = early.whatsapp_message_id
  where p_keep in (early.peer_lead_id, early.sender_lead_id);

  delete from public.leads where id = p_drop returning * into gone;
  -- of the names, one that a member gave wins over one that WhatsApp told
  update public.leads as kept
  set nome = case
      when kept.nome is null or (kept.nome = kept.push_name and gone.nome is distinct from gone.push_name)
      then coalesce(gone.nome, kept.nome) else kept.nome
    end,
    push_name = coalesce(kept.push_name, gone.push_name),
    business_name = coalesce(kept.business_name, gone.business_name),
    avatar_url = coalesce(kept.avatar_url, gone.avatar_url),
    blocked = kept.blocked or gone.blocked,
    opted_out_at = least(kept.opted_out_at, gone.opted_out_at)
  where kept.id = p_keep;

  update whatsapp_private.merged_rows set new_id = p_keep where new_id = p_drop;
  insert into whatsapp_private.merged_rows (old_id, new_id, workspace_id)
  values (p_drop, p_keep, gone.workspace_id);
end
$$;

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
