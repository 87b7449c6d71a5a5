"""Who is there: users, logins, tokens, visitors, and what each of them may do."""
