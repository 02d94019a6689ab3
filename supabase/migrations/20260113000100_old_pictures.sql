-- What becomes of the file of a picture when a newer one is shown: it is deleted from the bucket once
-- nothing names it any more. Messages that have it get the picture of now first, some at a time.
create table whatsapp_private.old_pictures (
  id uuid primary key default gen_random_uuid(),
  integration_account_id uuid not null references public.integration_accounts (id) on delete cascade,
  path text not null,
  lead_id uuid references public.leads (id) on delete set null,
  -- whoever looks at the old one now has time to hear of the new one
  run_at timestamptz not null default now() + interval '10 minutes',
  claimed_until timestamptz
);
create index old_pictures_by_time on whatsapp_private.old_pictures (run_at);
create index old_pictures_by_path on whatsapp_private.old_pictures (path);
create index old_pictures_by_account on whatsapp_private.old_pictures (integration_account_id);
create index old_pictures_by_lead on whatsapp_private.old_pictures (lead_id) where lead_id is not null;
create index leads_by_picture on public.leads (avatar_url) where avatar_url is not null;
comment on table whatsapp_private.old_pictures is
  'Pictures that a person or group has no longer, until their files are deleted.';
comment on column whatsapp_private.old_pictures.id is 'Identifier.';
comment on column whatsapp_private.old_pictures.integration_account_id is 'The account in whose folder the file is.';
comment on column whatsapp_private.old_pictures.path is 'The file, in the private bucket whatsapp-media.';
comment on column whatsapp_private.old_pictures.lead_id is 'Whose messages may have it; null for the picture of a group.';
comment on column whatsapp_private.old_pictures.run_at is 'Not before this.';
comment on column whatsapp_private.old_pictures.claimed_until is 'Until then a host deletes the file; afterwards it is tried again.';
revoke all on whatsapp_private.old_pictures from public, anon, authenticated, service_role;
grant select, insert, update, delete on whatsapp_private.old_pictures to service_role;

create function whatsapp_private.retire_picture(p_path text, p_lead uuid) returns void
language sql
set search_path = ''
as $$
  insert into whatsapp_private.old_pictures (integration_account_id, path, lead_id)
  select account.id, p_path, p_lead from public.integration_accounts as account
  where account.id::text = split_part(p_path, '/', 2)
$$;
comment on function whatsapp_private.retire_picture(text, uuid) is
  'The file is to be deleted when nothing names it any more.';

create function whatsapp_private.retire_picture_that_was_shown() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform whatsapp_private.retire_picture(old.avatar_url, case when tg_table_name = 'leads' then new.id end);
  return null;
end
$$;
comment on function whatsapp_private.retire_picture_that_was_shown() is
  'Trigger: a person or group has another picture, or none; the file of the old one is to be deleted.';
create trigger leads_retire_their_old_picture
  after update of avatar_url on public.leads
  for each row when (old.avatar_url is distinct from new.avatar_url and old.avatar_url is not null)
  execute function whatsapp_private.retire_picture_that_was_shown();
create trigger groups_retire_their_old_picture
  after update of avatar_url on public.conversations
  for each row when (
    new.kind = 'group' and old.avatar_url is distinct from new.avatar_url and old.avatar_url is not null
  )
  execute function whatsapp_private.retire_picture_that_was_shown();

create function whatsapp_private.is_picture_being_deleted(p_path text) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  claimed boolean;
begin
  -- locked: it cannot be claimed before the caller's transaction is over
  select bool_or(locked.claimed_until > now()) into claimed
  from (
    select old.claimed_until from whatsapp_private.old_pictures as old where old.path = p_path for update
  ) as locked;
  return coalesce(claimed, false);
end
$$;
comment on function whatsapp_private.is_picture_being_deleted(text) is
  'Whether a host deletes the file now; if not, none will until the end of the transaction.';

create function public.bridge_claim_old_pictures() returns table (id uuid, path text)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  due whatsapp_private.old_pictures;
  changed integer;
begin
  for due in
    select old.* from whatsapp_private.old_pictures as old
    where old.run_at <= now() and (old.claimed_until is null or old.claimed_until <= now())
    order by old.run_at
    limit 50
    for update skip locked
  loop
    exit when clock_timestamp() > statement_timestamp() + interval '2 seconds';
    update public.messages
    set sender_avatar_url = (select lead.avatar_url from public.leads as lead where lead.id = due.lead_id)
    where id in (
      select message.id from public.messages as message
      where message.sender_lead_id = due.lead_id and message.sender_avatar_url = due.path
      limit 200
    );
    get diagnostics changed = row_count;
    if changed = 200 then
      null;  -- there may be more
    elsif exists (select from public.leads as lead where lead.avatar_url = due.path)
      or exists (
        select from public.conversations as chat
        where chat.integration_account_id = due.integration_account_id
          and chat.kind = 'group' and chat.avatar_url = due.path
      )
      or exists (
        select from whatsapp_private.old_pictures as other where other.path = due.path and other.id <> due.id
      )
    then
      delete from whatsapp_private.old_pictures where id = due.id;
    else
      update whatsapp_private.old_pictures set claimed_until = now() + interval '10 minutes' where id = due.id;
      id := due.id;
      path := due.path;
      return next;
    end if;
  end loop;
end
$$;
comment on function public.bridge_claim_old_pictures() is
  'Up to 50 files of old pictures that nothing names any more, to be deleted and then forgotten; what is not forgotten is given out again after 10 minutes.';

create function public.bridge_forget_old_pictures(p_ids uuid[]) returns void
language sql
set search_path = ''
as $$
  delete from whatsapp_private.old_pictures where id = any (p_ids)
$$;
comment on function public.bridge_forget_old_pictures(uuid[]) is 'The files of these old pictures are deleted.';

select whatsapp_private.give_to_the_bridge(
  'public.bridge_claim_old_pictures()',
  'public.bridge_forget_old_pictures(uuid[])'
);
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
