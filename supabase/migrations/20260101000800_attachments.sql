-- The files of messages. The bytes are in the Storage bucket whatsapp-media.
create table public.attachments (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  message_id uuid not null references public.messages (id) on delete cascade,
  bucket text not null default 'whatsapp-media',
  path text,
  mime_type text,
  file_name text,
  size_bytes bigint
    constraint attachments_size_bytes_is_a_size check (size_bytes >= 0),
  sha256 text
    constraint attachments_sha256_is_hexadecimal check (sha256 ~ '^[0-9a-f]{64}$'),
  width integer,
  height integer,
  duration_s numeric,
  waveform smallint[],
  thumbnail text,
  status text not null default 'pending'
    constraint attachments_status_is_known check (status in ('pending', 'stored', 'failed', 'expired')),
  error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index attachments_by_message on public.attachments (message_id);
create index attachments_by_workspace on public.attachments (workspace_id);
comment on table public.attachments is 'Files of messages; make a signed URL of bucket and path to show one.';
comment on column public.attachments.id is 'Identifier.';
comment on column public.attachments.workspace_id is 'The workspace.';
comment on column public.attachments.message_id is 'The message.';
comment on column public.attachments.bucket is 'Storage bucket, whatsapp-media.';
comment on column public.attachments.path is 'workspace/account/conversation/message/file in the bucket; null until it is stored.';
comment on column public.attachments.mime_type is
  'MIME type: the sender''s word where the content agrees with it, otherwise what the content is.';
comment on column public.attachments.file_name is
  'File name that the sender gave; what would deceive a reader is written as %XX.';
comment on column public.attachments.size_bytes is 'Size in bytes.';
comment on column public.attachments.sha256 is 'SHA-256 of the bytes, hexadecimal.';
comment on column public.attachments.width is 'Width in pixels.';
comment on column public.attachments.height is 'Height in pixels.';
comment on column public.attachments.duration_s is 'Length in seconds.';
comment on column public.attachments.waveform is 'Loudness of a voice note, 64 values from 0 to 100.';
comment on column public.attachments.thumbnail is 'Small preview as a data URL, JPEG or PNG.';
comment on column public.attachments.status is
  'pending (being fetched), stored, failed (see error) or expired (WhatsApp no longer has it).';
comment on column public.attachments.error is
  'Why it failed or expired, as one sentence; while it is pending, why it was not fetched yet.';
comment on column public.attachments.created_at is 'When the row was inserted.';
comment on column public.attachments.updated_at is 'When a column last changed.';

create trigger attachments_touch_updated_at
  before update on public.attachments
  for each row when (old.* is distinct from new.*)
  execute function whatsapp_private.touch_updated_at();

revoke all on public.attachments from public, anon, authenticated, service_role;
grant select on public.attachments to authenticated;
grant select, insert, update, delete on public.attachments to service_role;
alter table public.attachments enable row level security;
create policy "members read attachments of their workspaces" on public.attachments
  for select to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('viewer')));
