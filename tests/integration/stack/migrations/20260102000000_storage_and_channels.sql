-- A private bucket that members read, and private channels named after their owner.
insert into storage.buckets (id, name, public) values ('media', 'media', false);
insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values ('small', 'small', false, 100, array['text/*']);
create policy "people read media" on storage.objects
  for select to authenticated using (bucket_id = 'media');
create policy "people write media below their own id" on storage.objects
  for insert to authenticated
  with check (bucket_id = 'media' and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "people read their own channel" on realtime.messages
  for select to authenticated using (realtime.topic() = 'room:' || (select auth.uid()));
create policy "people write to their own channel" on realtime.messages
  for insert to authenticated with check (realtime.topic() = 'room:' || (select auth.uid()));
