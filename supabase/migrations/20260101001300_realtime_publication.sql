-- What frontends subscribe to. Session state is never here: key churn must not reach subscribers.
alter publication supabase_realtime add table
  public.integration_accounts, public.conversations, public.messages, public.attachments, public.commands;
