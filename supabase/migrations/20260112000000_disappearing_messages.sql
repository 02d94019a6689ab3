-- The timer of disappearing messages of a chat: learnt from what is said there, honoured in what is sent.

create function whatsapp_private.learn_timer_of_chat() returns trigger
language plpgsql
set search_path = ''
as $$
declare
  told constant numeric := case new.tipo
    when 'system' then (new.payload ->> 'seconds')::numeric
    else (new.payload ->> 'disappears_after_s')::numeric
  end;
begin
  if told <> 0 and told not between 60 and 31622400 then
    return null;  -- no app can set that: a joke of its sender
  end if;
  update public.conversations
  set disappears_after_s = nullif(told, 0), disappears_since = new.sent_at
  where id = new.conversation_id
    and (disappears_since is null or disappears_since <= new.sent_at)
    and (disappears_after_s is distinct from nullif(told, 0) or new.tipo = 'system');
  return null;
end
$$;
comment on function whatsapp_private.learn_timer_of_chat() is
  'Trigger: a message that disappears, or the news that the timer was changed, says what the timer of the chat is.';
create trigger messages_tell_the_timer_of_their_chat
  after insert on public.messages
  for each row when (
    new.command_id is null
    and (
      jsonb_typeof(new.payload -> 'disappears_after_s') = 'number'
      or (
        new.tipo = 'system' and new.payload -> 'action' = '"disappearing"'
        and jsonb_typeof(new.payload -> 'seconds') = 'number'
      )
    )
  )
  execute function whatsapp_private.learn_timer_of_chat();

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
