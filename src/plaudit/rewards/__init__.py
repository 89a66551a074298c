"""How good is it? Judges, rules, learned rewards, and their compositions."""
