"""The same jobs past one machine: scoring on Ray, training with accelerate and FSDP."""
