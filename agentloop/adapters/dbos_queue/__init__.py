"""The queue on DBOS Transact: the only place that knows it. A session is one workflow without steps; its log is the truth."""
