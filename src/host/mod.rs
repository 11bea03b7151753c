//! What this host does for a plan: it runs errands, here or for whoever sent them to the agent.

mod inspect;
