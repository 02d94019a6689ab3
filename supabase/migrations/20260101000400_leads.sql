-- One row a person and workspace. WhatsApp names people by phone JID or by LID, and tells which
-- belong together late: the bridge merges two rows when it learns that they are one person.
create table public.leads (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  whatsapp_wa_id text
    constraint leads_whatsapp_wa_id_is_a_phone_jid check (whatsapp_wa_id ~ '^[^@\s]+@s\.whatsapp\.net$'),
  lid text
    constraint leads_lid_is_a_lid check (lid ~ '^[^@\s]+@lid$'),
  telefone text
    constraint leads_telefone_is_the_number_of_the_phone_jid
    check (
      telefone is null
      or (telefone ~ '^[0-9]+$' and whatsapp_wa_id is not distinct from telefone || '@s.whatsapp.net')
    ),
  nome text
    constraint leads_nome_has_at_most_200_characters check (char_length(nome) <= 200),
  push_name text,
  business_name text,
  avatar_url text,
  blocked boolean not null default false,
  opted_out_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default now(),
  constraint leads_have_an_address check (whatsapp_wa_id is not null or lid is not null)
);
create unique index leads_one_per_phone_jid on public.leads (workspace_id, whatsapp_wa_id);
create unique index leads_one_per_lid on public.leads (workspace_id, lid);
comment on table public.leads is
  'A person who wrote or was written to, once per workspace. The bridge finds it by phone or LID and merges two rows when they turn out to be one person.';
comment on column public.leads.id is 'Identifier. After a merge the older row stays; commands that name the other still find it.';
comment on column public.leads.workspace_id is 'The workspace.';
comment on column public.leads.whatsapp_wa_id is 'Phone JID (5511…@s.whatsapp.net); null until it is known.';
comment on column public.leads.lid is 'LID, an address of WhatsApp that hides the number (…@lid); null until it is known. Never a phone number.';
comment on column public.leads.telefone is 'Phone number in digits with country code; null until it is known.';
comment on column public.leads.nome is 'Name shown to people: what WhatsApp tells, until a member edits it.';
comment on column public.leads.push_name is 'The name the person chose on WhatsApp.';
comment on column public.leads.business_name is 'Verified name of a business account.';
comment on column public.leads.avatar_url is
  'Path of the picture in the private bucket whatsapp-media, to be read with a signed URL; null if there is none, it is hidden, or not fetched yet.';
comment on column public.leads.blocked is 'Whether an account of the workspace blocks the person on WhatsApp, by a command or on the phone.';
comment on column public.leads.opted_out_at is 'When the person asked not to be written to. Editable.';
comment on column public.leads.created_at is 'When the row was inserted.';
comment on column public.leads.updated_at is 'When a column last changed.';

create trigger leads_touch_updated_at
  before update on public.leads
  for each row when (old.* is distinct from new.*)
  execute function whatsapp_private.touch_updated_at();

revoke all on public.leads from public, anon, authenticated, service_role;
grant select, update (nome, opted_out_at) on public.leads to authenticated;
grant select, insert, update, delete on public.leads to service_role;
alter table public.leads enable row level security;
create policy "members read leads of their workspaces" on public.leads
  for select to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('viewer')));
create policy "agents edit leads of their workspaces" on public.leads
  for update to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('agent')))
  with check (workspace_id in (select public.whatsapp_workspaces_of_caller('agent')));
