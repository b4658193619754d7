"""Operations as pure functions of arrays."""
