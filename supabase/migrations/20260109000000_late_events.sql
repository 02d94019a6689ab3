-- What a host had in its journal when it lost an account for good: Supabase was away for longer than
-- the lease, and another host runs the account now. The fence keeps that host from writing, rightly.
-- What WhatsApp told it is true all the same, and was told to nobody else.

create function public.bridge_lease_epochs(p_accounts uuid[])
returns table (account_id uuid, lease_epoch bigint, lease_owner uuid)
language sql stable
set search_path = ''
as $$
  select session.integration_account_id, session.lease_epoch, session.lease_owner
  from public.whatsapp_baileys_sessions as session
  where session.integration_account_id = any (p_accounts)
$$;
comment on function public.bridge_lease_epochs(uuid[]) is
  'How often these accounts changed hands, and who has them: a host compares what is left on its disk. Accounts that are gone are not in it.';

create function public.bridge_record_late(p_worker uuid, p_account uuid, p_held_epoch bigint, p_events jsonb)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  -- facts, which no later one contradicts: recorded twice, or after newer ones, they change nothing.
  -- Not how a command ended (the holder has settled it) and not what a group is called (now).
  facts constant text[] := array[
    'message', 'edit', 'revoke', 'reaction', 'poll_vote', 'call', 'system', 'receipt', 'sent', 'person', 'diagnostic'
  ];
  present record;
begin
  if p_events is null or jsonb_typeof(p_events) <> 'array' then
    raise exception 'Events are a JSON array.' using errcode = '22023';
  end if;
  select session.lease_epoch, session.lease_owner into present
  from public.whatsapp_baileys_sessions as session
  where session.integration_account_id = p_account
  for no key update;  -- as the fence does: one writer an account
  if not coalesce(
    present.lease_epoch > p_held_epoch or (present.lease_epoch = p_held_epoch and present.lease_owner is null), false
  ) then
    raise exception 'The account is still held under this epoch, or was never: record as its holder.' using errcode = 'WB001';
  end if;
  return whatsapp_private.record_events(
    p_worker, p_account,
    (select account.workspace_id from public.integration_accounts as account where account.id = p_account),
    (
      select coalesce(jsonb_agg(told.event order by told.place), '[]')
      from jsonb_array_elements(p_events) with ordinality as told (event, place)
      where told.event ->> 'kind' = any (facts)
    )
  );
end
$$;
comment on function public.bridge_record_late(uuid, uuid, bigint, jsonb) is
  'Records what a worker was told under an epoch that is over, and could not record before: facts only, as bridge_record_events does, anything else is left out. WB001 unless the account was taken since, or released.';

select whatsapp_private.give_to_the_bridge(
  'public.bridge_lease_epochs(uuid[])', 'public.bridge_record_late(uuid, uuid, bigint, jsonb)'
);
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
