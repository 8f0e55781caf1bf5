// Compiles, unless the compiler is told to bend arithmetic: see tests/CMakeLists.txt.
#include <fewbit/core/config.hpp>

int main() { return FEWBIT_VERSION == 0; }
