// How tests/cpp/fake_torch.cpp behaves.
#pragma once
extern int fake_threads;
extern bool fake_poison;  // new memory is NaN; else as malloc gives it, for valgrind to follow
