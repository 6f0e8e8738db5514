// The settings of tests/cpp/fake_torch.cpp.
#pragma once
extern int fake_threads;
// true: new memory is NaN. false: new memory is as malloc gives it, so valgrind can follow it.
extern bool fake_poison;
