-- Whom the accounts block. WhatsApp keeps a list for each account, by address; people on it need not
-- be leads, and become none by it. leads.blocked shows whether any account of the workspace blocks
-- the person, and is right for leads that are met, or learn their other address, later.
create table whatsapp_private.blocked_addresses (
  integration_account_id uuid not null references public.integration_accounts (id) on delete cascade,
  jid text not null,
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  primary key (integration_account_id, jid)
);
create index blocked_addresses_by_jid on whatsapp_private.blocked_addresses (workspace_id, jid);
comment on table whatsapp_private.blocked_addresses is
  'Whom an account blocks, as its blocklist at WhatsApp said last: one row an address, so up to two a person.';
comment on column whatsapp_private.blocked_addresses.integration_account_id is 'The account that blocks.';
comment on column whatsapp_private.blocked_addresses.jid is 'Phone JID or LID of the person, who need not be a lead.';
comment on column whatsapp_private.blocked_addresses.workspace_id is 'The workspace of the account.';
revoke all on whatsapp_private.blocked_addresses from public, anon, authenticated, service_role;
grant select, insert, update, delete on whatsapp_private.blocked_addresses to service_role;

create function whatsapp_private.is_blocked(p_workspace uuid, p_phone_jid text, p_lid text) returns boolean
language sql stable
set search_path = ''
as $$
  select exists (
    select from whatsapp_private.blocked_addresses as blocked
    where blocked.workspace_id = p_workspace and blocked.jid in (p_phone_jid, p_lid)
  )
$$;
comment on function whatsapp_private.is_blocked(uuid, text, text) is
  'Whether an account of the workspace blocks the person with these addresses.';

create function whatsapp_private.show_block_of_lead() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.blocked := whatsapp_private.is_blocked(new.workspace_id, new.whatsapp_wa_id, new.lid);
  return new;
end
$$;
comment on function whatsapp_private.show_block_of_lead() is
  'Trigger: a person whose address becomes known may be blocked already.';
create trigger leads_show_whether_they_are_blocked
  before insert or update of whatsapp_wa_id, lid on public.leads
  for each row execute function whatsapp_private.show_block_of_lead();

create function whatsapp_private.show_blocks() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  update public.leads as lead
  set blocked = not lead.blocked
  where lead.id in (
      select known.id from changed
      join public.leads as known on known.workspace_id = changed.workspace_id and known.whatsapp_wa_id = changed.jid
      union
      select known.id from changed
      join public.leads as known on known.workspace_id = changed.workspace_id and known.lid = changed.jid
    )
    and lead.blocked <> whatsapp_private.is_blocked(lead.workspace_id, lead.whatsapp_wa_id, lead.lid);
  return null;
end
$$;
comment on function whatsapp_private.show_blocks() is
  'Trigger: leads show whether an account blocks them now.';
create trigger blocked_addresses_show_in_leads_when_added
  after insert on whatsapp_private.blocked_addresses
  referencing new table as changed
  for each statement execute function whatsapp_private.show_blocks();
create trigger blocked_addresses_show_in_leads_when_removed
  after delete on whatsapp_private.blocked_addresses
  referencing old table as changed
  for each statement execute function whatsapp_private.show_blocks();

create function whatsapp_private.keep_block(p_account uuid, p_workspace uuid, p_jid text, p_blocked boolean)
returns void
language plpgsql
set search_path = ''
as $$
declare
  addresses constant text[] := array(
    select p_jid
    union
    select unnest(array[lead.whatsapp_wa_id, lead.lid]) from public.leads as lead
    where lead.workspace_id = p_workspace and (lead.whatsapp_wa_id = p_jid or lead.lid = p_jid)
  );
begin
  if p_blocked then
    insert into whatsapp_private.blocked_addresses (integration_account_id, jid, workspace_id)
    select p_account, address, p_workspace from unnest(addresses) as address where address is not null
    on conflict do nothing;
  else
    delete from whatsapp_private.blocked_addresses
    where integration_account_id = p_account and jid = any (addresses);
  end if;
end
$$;
comment on function whatsapp_private.keep_block(uuid, uuid, text, boolean) is
  'An account blocked a person, or no longer does, by a command.';

create function public.bridge_record_blocklist(p_worker uuid, p_account uuid, p_epoch bigint, p_people jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
  workspace constant uuid := whatsapp_private.fence(p_worker, p_account, p_epoch);
  addresses text[];
begin
  if jsonb_typeof(p_people) is distinct from 'array' then
    raise exception 'A blocklist is an array of people.' using errcode = '22023';
  end if;
  addresses := array(
    select address
    from jsonb_array_elements(p_people) as person
    cross join lateral unnest(array[person ->> 'phone_jid', person ->> 'lid']) as address
    where address is not null
  );
  perform whatsapp_private.lock_identities(workspace, true);
  delete from whatsapp_private.blocked_addresses
  where integration_account_id = p_account and jid <> all (addresses);
  insert into whatsapp_private.blocked_addresses (integration_account_id, jid, workspace_id)
  select p_account, address, workspace from unnest(addresses) as address
  on conflict do nothing;
end
$$;
comment on function public.bridge_record_blocklist(uuid, uuid, bigint, jsonb) is
  'The account blocks these people ({phone_jid, lid}) and nobody else. WB001 if the lease is lost.';
select whatsapp_private.give_to_the_bridge('public.bridge_record_blocklist(uuid, uuid, bigint, jsonb)');
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
