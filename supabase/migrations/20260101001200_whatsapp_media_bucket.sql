-- Media of messages, private: workspace/account/conversation/message/file.
insert into storage.buckets (id, name, public) values ('whatsapp-media', 'whatsapp-media', false);

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
