// What a project that uses fewbit does first. Built against fewbit::fewbit and against fewbit::headers.
#include <cstdio>
#include <fewbit/fewbit.hpp>

int main() {
    std::printf("fewbit %s (%d)\n", FEWBIT_VERSION_STRING, FEWBIT_VERSION);
    return 0;
}
