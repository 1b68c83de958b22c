"""Methods side by side, each tuned alike: trials, table, picture."""
