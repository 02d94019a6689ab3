-- Who belongs together. A project with its own tenancy mirrors its tenants into `workspaces` and
-- replaces whatsapp_workspaces_of_caller(); no policy looks anywhere else.
create table public.workspaces (
  id uuid primary key default gen_random_uuid(),
  nome text not null
    constraint workspaces_nome_has_1_to_200_characters check (char_length(btrim(nome)) > 0 and char_length(nome) <= 200),
  sending_paused boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on table public.workspaces is 'A tenant: the team that shares accounts, contacts and conversations.';
comment on column public.workspaces.id is 'Identifier.';
comment on column public.workspaces.nome is 'Name shown to people.';
comment on column public.workspaces.sending_paused is
  'The kill switch of the whole workspace: while it is on, no send of its accounts leaves. Editable by admins.';
comment on column public.workspaces.created_at is 'When the workspace was created.';
comment on column public.workspaces.updated_at is 'When a column last changed.';

create table public.workspace_members (
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  role text not null
    constraint workspace_members_role_is_known check (role in ('owner', 'admin', 'agent', 'viewer')),
  created_at timestamptz not null default now(),
  primary key (workspace_id, user_id)
);
create index workspace_members_by_user on public.workspace_members (user_id);
comment on table public.workspace_members is 'Which user may do what in which workspace.';
comment on column public.workspace_members.workspace_id is 'The workspace.';
comment on column public.workspace_members.user_id is 'The user of Supabase Auth.';
comment on column public.workspace_members.role is
  'owner > admin > agent > viewer: owners manage everybody, admins manage agents and viewers, agents work, viewers read.';
comment on column public.workspace_members.created_at is 'When the user joined.';

create function whatsapp_private.rank_of_role(p_role text) returns integer
language sql immutable
set search_path = ''
as $$
  select case p_role when 'owner' then 4 when 'admin' then 3 when 'agent' then 2 when 'viewer' then 1 end
$$;
comment on function whatsapp_private.rank_of_role(text) is
  'Orders the roles; null for a role that does not exist.';

-- security definer: policies of workspace_members call it too, and it must not run into them again
create function public.whatsapp_workspaces_of_caller(min_role text) returns setof uuid
language sql stable security definer
set search_path = ''
rows 5
as $$
  select member.workspace_id
  from public.workspace_members as member
  where member.user_id = (select auth.uid())
    and whatsapp_private.rank_of_role(member.role) >= whatsapp_private.rank_of_role(min_role)
$$;
comment on function public.whatsapp_workspaces_of_caller(text) is
  'Ids of the workspaces in which the caller has at least this role (viewer, agent, admin, owner). '
  'Every policy goes through it: a project with its own tenancy replaces this one function.';
revoke all on function public.whatsapp_workspaces_of_caller(text) from public, anon, authenticated, service_role;
grant execute on function public.whatsapp_workspaces_of_caller(text) to authenticated, service_role;

-- security definer: the first member cannot be inserted by somebody who is not a member yet
create function public.whatsapp_create_workspace(p_nome text) returns public.workspaces
language plpgsql security definer
set search_path = ''
as $$
declare
  created public.workspaces;
begin
  if auth.uid() is null then
    raise exception 'Only a signed-in user can create a workspace.' using errcode = '42501';
  end if;
  if p_nome is null or char_length(btrim(p_nome)) not between 1 and 200 then
    raise exception 'The name of a workspace needs 1 to 200 characters.' using errcode = '22023';
  end if;
  insert into public.workspaces (nome) values (btrim(p_nome)) returning * into created;
  insert into public.workspace_members (workspace_id, user_id, role)
  values (created.id, auth.uid(), 'owner');
  return created;
end
$$;
comment on function public.whatsapp_create_workspace(text) is
  'Creates a workspace and makes the caller its owner.';
revoke all on function public.whatsapp_create_workspace(text) from public, anon, authenticated, service_role;
grant execute on function public.whatsapp_create_workspace(text) to authenticated;

-- security definer: sees all owners, whatever the caller may see
create function whatsapp_private.keep_one_owner() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if old.role <> 'owner' or (tg_op = 'UPDATE' and new.role = 'owner') then
    return null;
  end if;
  -- two owners who demote each other at once: the second waits here and finds nobody left
  perform from public.workspaces where id = old.workspace_id for no key update;
  if not found or not exists (select from auth.users where id = old.user_id) then
    return null;  -- the workspace or the user itself is going
  end if;
  if not exists (
    select from public.workspace_members where workspace_id = old.workspace_id and role = 'owner'
  ) then
    raise exception 'A workspace keeps at least one owner: make somebody else owner first.'
      using errcode = '23514';
  end if;
  return null;
end
$$;
comment on function whatsapp_private.keep_one_owner() is 'Trigger: the last owner stays.';
create trigger workspaces_keep_one_owner
  after update or delete on public.workspace_members
  for each row execute function whatsapp_private.keep_one_owner();

create trigger workspaces_touch_updated_at
  before update on public.workspaces
  for each row when (old.* is distinct from new.*)
  execute function whatsapp_private.touch_updated_at();

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;

revoke all on public.workspaces, public.workspace_members from public, anon, authenticated, service_role;
grant select, delete, update (nome, sending_paused) on public.workspaces to authenticated;
grant select, delete, insert (workspace_id, user_id, role), update (role) on public.workspace_members to authenticated;
grant select, insert, update, delete on public.workspaces, public.workspace_members to service_role;

alter table public.workspaces enable row level security;
alter table public.workspace_members enable row level security;

create policy "members read their workspaces" on public.workspaces
  for select to authenticated
  using (id in (select public.whatsapp_workspaces_of_caller('viewer')));
create policy "admins rename and pause their workspaces" on public.workspaces
  for update to authenticated
  using (id in (select public.whatsapp_workspaces_of_caller('admin')))
  with check (id in (select public.whatsapp_workspaces_of_caller('admin')));
create policy "owners delete their workspaces" on public.workspaces
  for delete to authenticated
  using (id in (select public.whatsapp_workspaces_of_caller('owner')));

create policy "members read the members of their workspaces" on public.workspace_members
  for select to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('viewer')));
create policy "owners add anybody, admins add agents and viewers" on public.workspace_members
  for insert to authenticated
  with check (
    workspace_id in (select public.whatsapp_workspaces_of_caller('owner'))
    or (
      role in ('agent', 'viewer')
      and workspace_id in (select public.whatsapp_workspaces_of_caller('admin'))
    )
  );
create policy "owners change any role, admins those of agents and viewers" on public.workspace_members
  for update to authenticated
  using (
    workspace_id in (select public.whatsapp_workspaces_of_caller('owner'))
    or (
      role in ('agent', 'viewer')
      and workspace_id in (select public.whatsapp_workspaces_of_caller('admin'))
    )
  )
  with check (
    workspace_id in (select public.whatsapp_workspaces_of_caller('owner'))
    or (
      role in ('agent', 'viewer')
      and workspace_id in (select public.whatsapp_workspaces_of_caller('admin'))
    )
  );
create policy "owners remove anybody, admins the lower, members themselves" on public.workspace_members
  for delete to authenticated
  using (
    user_id = (select auth.uid())
    or workspace_id in (select public.whatsapp_workspaces_of_caller('owner'))
    or (
      role in ('agent', 'viewer')
      and workspace_id in (select public.whatsapp_workspaces_of_caller('admin'))
    )
  );
