-- An account with a million messages is not deleted within the time of one statement: its rows go
-- in pieces, and the account's own row last.

create function whatsapp_private.delete_rows_of_account(p_account uuid, p_limit integer) returns integer
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
declare
  deleted integer;
begin
  delete from public.commands where id in (
    select command.id from public.commands as command
    where command.integration_account_id = p_account
    order by command.idempotency_key  -- as an index has them
    limit p_limit
  );
  get diagnostics deleted = row_count;
  if deleted = 0 then
    delete from public.messages where id in (
      select message.id from public.messages as message
      where message.integration_account_id = p_account
      order by message.seq
      limit p_limit
    );
    get diagnostics deleted = row_count;
  end if;
  return deleted;
end
$$;
comment on function whatsapp_private.delete_rows_of_account(uuid, integer) is
  'Deletes so many commands of an account, or, when there are none, messages with what hangs on them; 0 when nothing is left.';

-- security definer: members may not delete messages one by one
create function public.whatsapp_delete_account(p_account uuid) returns boolean
language plpgsql security definer
set search_path = ''
as $$
declare
  is_member constant boolean := current_setting('role', true) in ('anon', 'authenticated');
begin
  if not exists (
    select from public.integration_accounts
    where id = p_account
      and (not is_member or workspace_id in (select public.whatsapp_workspaces_of_caller('viewer')))
  ) then
    return true;
  end if;
  if is_member and not exists (
    select from public.integration_accounts
    where id = p_account and workspace_id in (select public.whatsapp_workspaces_of_caller('admin'))
  ) then
    raise exception 'Deleting an account needs the role admin in its workspace.' using errcode = '42501';
  end if;
  while whatsapp_private.delete_rows_of_account(p_account, 500) > 0 loop
    if clock_timestamp() > statement_timestamp() + interval '3 seconds' then
      return false;
    end if;
  end loop;
  delete from public.integration_accounts where id = p_account;
  return true;
end
$$;
comment on function public.whatsapp_delete_account(uuid) is
  'Deletes an account of any size: works for some 3 seconds, and is called again until it returns true. What was deleted stays deleted in between. Admins only.';
revoke all on function public.whatsapp_delete_account(uuid) from public, anon, authenticated, service_role;
grant execute on function public.whatsapp_delete_account(uuid) to authenticated, service_role;

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
