-- `wabridge keys rotate`: everything that is sealed with another key than the newest one, and putting it
-- back sealed anew. Bridges may run meanwhile: what they have replaced since is left alone.

create function public.bridge_list_sealed(p_key_id text, p_skip text[], p_limit integer)
returns table (what text, id text, account_id uuid, generation bigint, sealed jsonb)
language sql stable
set search_path = ''
as $$
  select found.what, found.id, found.account_id, found.generation, found.sealed
  from (
    select 'session' as what, session.integration_account_id::text as id, session.integration_account_id as account_id,
      -- the state as it was before its changes
      coalesce(
        (
          select min(delta.generation) - 1
          from public.whatsapp_baileys_auth_deltas as delta
          where delta.integration_account_id = session.integration_account_id
        ),
        session.generation
      ) as generation,
      session.auth_state as sealed
    from public.whatsapp_baileys_sessions as session
    where session.auth_state ->> 'kid' is distinct from p_key_id and session.auth_state is not null
    union all
    select 'change', delta.integration_account_id || '/' || delta.generation, delta.integration_account_id,
      delta.generation, delta.delta
    from public.whatsapp_baileys_auth_deltas as delta
    where delta.delta ->> 'kid' is distinct from p_key_id
    union all
    select 'media', download.attachment_id::text, download.integration_account_id, 0, download.sealed
    from whatsapp_private.attachment_downloads as download
    where download.sealed ->> 'kid' is distinct from p_key_id
  ) as found
  where found.id <> all (coalesce(p_skip, '{}'))
  order by found.what desc, found.id
  limit p_limit
$$;
comment on function public.bridge_list_sealed(text, text[], integer) is
  'What is sealed with another key than this one (session states, their changes, keys of media), except what is to be skipped. generation is what it is tied to.';

create function public.bridge_reseal(p_items jsonb) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  item jsonb;
  changed jsonb := '{}';
begin
  if p_items is null or jsonb_typeof(p_items) <> 'array' then
    raise exception 'Items are a JSON array.' using errcode = '22023';
  end if;
  for item in select value from jsonb_array_elements(p_items) loop
    if jsonb_typeof(item -> 'sealed') is distinct from 'object' or item ->> 'nonce' is null then
      raise exception 'An item names what was sealed (nonce), and brings it sealed anew.' using errcode = '22023';
    end if;
    -- A nonce is never used twice: the same nonce means that nothing has changed since it was read.
    -- What somebody writes just now is left to the next round: whoever waits here, with the rows before
    -- still locked, waits in a ring with the renewal of leases.
    case item ->> 'what'
      when 'session' then
        update public.whatsapp_baileys_sessions as session
        set auth_state = item -> 'sealed'
        from (
          select id from public.whatsapp_baileys_sessions
          where integration_account_id = (item ->> 'id')::uuid and auth_state ->> 'nonce' = item ->> 'nonce'
          for no key update skip locked
        ) as free
        where session.id = free.id;
      when 'change' then
        update public.whatsapp_baileys_auth_deltas as delta
        set delta = item -> 'sealed'
        from (
          select integration_account_id, generation from public.whatsapp_baileys_auth_deltas as change
          where change.integration_account_id = split_part(item ->> 'id', '/', 1)::uuid
            and change.generation = split_part(item ->> 'id', '/', 2)::bigint
            and change.delta ->> 'nonce' = item ->> 'nonce'
          for no key update skip locked
        ) as free
        where delta.integration_account_id = free.integration_account_id and delta.generation = free.generation;
      when 'media' then
        update whatsapp_private.attachment_downloads as download
        set sealed = item -> 'sealed'
        from (
          select attachment_id from whatsapp_private.attachment_downloads as waiting
          where waiting.attachment_id = (item ->> 'id')::uuid and waiting.sealed ->> 'nonce' = item ->> 'nonce'
          for no key update skip locked
        ) as free
        where download.attachment_id = free.attachment_id;
      else
        raise exception 'what is not known.' using errcode = '22023';
    end case;
    if found then
      changed := jsonb_set(
        changed, array[item ->> 'what'], to_jsonb(coalesce((changed ->> (item ->> 'what'))::integer, 0) + 1)
      );
    end if;
  end loop;
  return changed;
end
$$;
comment on function public.bridge_reseal(jsonb) is
  'Puts [{what, id, nonce, sealed}] in the place of what was sealed with that nonce, and returns how many of each: what a bridge has replaced meanwhile, or is writing now, stays. Generations stay as they are.';

select whatsapp_private.give_to_the_bridge(
  'public.bridge_list_sealed(text, text[], integer)', 'public.bridge_reseal(jsonb)'
);
