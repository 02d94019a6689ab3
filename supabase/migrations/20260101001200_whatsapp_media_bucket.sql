-- Media of messages, private: workspace/account/conversation/message/file.
-- Without a limit of its own a bucket has 50 MB in some installations. A project's limit, if lower, holds.
insert into storage.buckets (id, name, public, file_size_limit)
values ('whatsapp-media', 'whatsapp-media', false, 2147483648);

create policy "members read whatsapp media of their workspaces" on storage.objects
  for select to authenticated
  using (
    bucket_id = 'whatsapp-media'
    and (storage.foldername(name))[1] in (
      select allowed.id::text from public.whatsapp_workspaces_of_caller('viewer') as allowed (id)
    )
  );
-- Files to send go the same way; nothing is overwritten or deleted by members.
create policy "agents add whatsapp media to accounts of their workspaces" on storage.objects
  for insert to authenticated
  with check (
    bucket_id = 'whatsapp-media'
    and ((storage.foldername(name))[1], (storage.foldername(name))[2]) in (
      select account.workspace_id::text, account.id::text
      from public.integration_accounts as account
      where account.workspace_id in (select public.whatsapp_workspaces_of_caller('agent'))
    )
  );

-- Policies are joined with "or": one that opens all buckets of a project, as many have, would open
-- this one. Restrictive policies are joined with "and", and say nothing about other buckets.
create policy "nobody else reads whatsapp media" on storage.objects
  as restrictive for select to authenticated
  using (
    bucket_id is distinct from 'whatsapp-media'
    or (storage.foldername(name))[1] in (
      select allowed.id::text from public.whatsapp_workspaces_of_caller('viewer') as allowed (id)
    )
  );
create policy "nobody else adds whatsapp media" on storage.objects
  as restrictive for insert to authenticated
  with check (
    bucket_id is distinct from 'whatsapp-media'
    or ((storage.foldername(name))[1], (storage.foldername(name))[2]) in (
      select account.workspace_id::text, account.id::text
      from public.integration_accounts as account
      where account.workspace_id in (select public.whatsapp_workspaces_of_caller('agent'))
    )
  );
create policy "nobody changes whatsapp media" on storage.objects
  as restrictive for update to authenticated
  using (bucket_id is distinct from 'whatsapp-media')
  with check (bucket_id is distinct from 'whatsapp-media');
create policy "nobody deletes whatsapp media" on storage.objects
  as restrictive for delete to authenticated
  using (bucket_id is distinct from 'whatsapp-media');
-- apart, because anon may not call the function, not even for the files of other buckets
create policy "strangers have no part in whatsapp media" on storage.objects
  as restrictive for all to anon
  using (bucket_id is distinct from 'whatsapp-media')
  with check (bucket_id is distinct from 'whatsapp-media');
