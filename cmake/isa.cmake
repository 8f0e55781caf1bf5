# One row per instruction set: name | architecture (x86_64, aarch64, any) | flags.
# kernels/<family>/<name>.cpp is compiled with the flags of its row, and no other file with any. A family that lacks a
# file for a row is fine: selection reports it. The flags say what the kernel file may assume; whether the CPU has it is
# asked at run time.
#
# g++ schedules instructions on Arm before it knows registers: it moves so many loads and products up that the sums of a
# tile no longer fit (kernels/tile16/README.md). CPUs with these kernels mostly order instructions themselves.
set(FEWBIT_NEON_FLAGS "")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(FEWBIT_NEON_FLAGS "-fno-schedule-insns")
endif()
set(FEWBIT_ISA_ROWS
    "generic|any|"
    "avx2|x86_64|-mavx2 -mfma -mf16c"
    "avx_vnni|x86_64|-mavx2 -mfma -mf16c -mavxvnni"
    "avx512vl_vnni|x86_64|-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mprefer-vector-width=256"
    "avx512_vnni|x86_64|-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mprefer-vector-width=512"
    "avx512_bf16|x86_64|-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16 -mprefer-vector-width=512"
    "amx_int8|x86_64|-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mamx-tile -mamx-int8 -mprefer-vector-width=512"
    "neon|aarch64|${FEWBIT_NEON_FLAGS}"
    "neon_dotprod|aarch64|-march=armv8.2-a+dotprod ${FEWBIT_NEON_FLAGS}"
    "neon_i8mm|aarch64|-march=armv8.2-a+dotprod+i8mm ${FEWBIT_NEON_FLAGS}")

# For every kernel: the generic ones too are a product, and fast against generic is only a fair comparison if both are
# optimized equally hard. They cannot fail; told so, clang++ leaves out the weak function that would end the program.
# With sanitizers tiles of kernels take minutes to optimize: presets that only look for errors ask for less, and for checks that
# are called, not inlined.
set(FEWBIT_KERNEL_OPTIMIZATION "-O3" CACHE STRING "Optimization of kernels outside of Debug builds")
mark_as_advanced(FEWBIT_KERNEL_OPTIMIZATION)
set(FEWBIT_KERNEL_FLAGS "-fno-exceptions;$<$<NOT:$<CONFIG:Debug>>:${FEWBIT_KERNEL_OPTIMIZATION}>")

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(FEWBIT_ARCHITECTURE x86_64)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
    set(FEWBIT_ARCHITECTURE aarch64)
else()
    set(FEWBIT_ARCHITECTURE other)
endif()

# Instrumented kernels take minutes to compile, and only a CPU that has their instructions could find anything in them.
option(FEWBIT_ONLY_THIS_CPU "Build the kernels that this machine's CPU can run, and no others (Linux)" OFF)
mark_as_advanced(FEWBIT_ONLY_THIS_CPU)

# Whether the CPU of this machine has every instruction of `flags`: "-mavx512vnni" is avx512_vnni in /proc/cpuinfo. What cannot
# be told counts as there.
function(fewbit_this_cpu_has result flags)
    set(${result} TRUE PARENT_SCOPE)
    if(CMAKE_CROSSCOMPILING OR NOT FEWBIT_ARCHITECTURE STREQUAL "x86_64" OR NOT EXISTS /proc/cpuinfo)
        return()
    endif()
    file(STRINGS /proc/cpuinfo line REGEX "^flags" LIMIT_COUNT 1)
    string(REPLACE "_" "" line "${line} ")
    string(REGEX MATCHALL "-m(avx|fma|f16c|amx-)[a-z0-9]*" wanted "${flags}")
    foreach(flag IN LISTS wanted)
        string(SUBSTRING "${flag}" 2 -1 flag)
        string(REPLACE "-" "" flag "${flag}")
        if(line AND NOT line MATCHES " ${flag} ")
            set(${result} FALSE PARENT_SCOPE)
        endif()
    endforeach()
endfunction()

# Adds kernel sources to the library and tells it which instruction sets it was built with: FEWBIT_BUILT_<NAME>=1, which
# selection reads to say "not built" instead of "unknown".
function(fewbit_add_kernels target)
    set(known "")
    set(built "")
    foreach(row IN LISTS FEWBIT_ISA_ROWS)
        string(REPLACE "|" ";" cells "${row}")
        list(GET cells 0 name)
        list(GET cells 1 architecture)
        list(GET cells 2 flags)
        list(APPEND known ${name})
        set(runs TRUE)
        if(FEWBIT_ONLY_THIS_CPU)
            fewbit_this_cpu_has(runs "${flags}")
        endif()
        if(runs AND (architecture STREQUAL "any" OR architecture STREQUAL FEWBIT_ARCHITECTURE))
            list(APPEND built ${name})
            separate_arguments(flags_${name} UNIX_COMMAND "${flags}")
            string(TOUPPER "${name}" upper)
            target_compile_definitions(${target} PRIVATE FEWBIT_BUILT_${upper}=1)
        endif()
    endforeach()
    foreach(source IN LISTS ARGN)
        cmake_path(GET source STEM name)
        if(NOT name IN_LIST known)
            list(JOIN known ", " names)
            message(FATAL_ERROR "${source}: kernel files are named after their instruction set, and '${name}' has no row "
                                "in cmake/isa.cmake (rows: ${names}). Add a row there or rename the file.")
        endif()
        if(name IN_LIST built)
            target_sources(${target} PRIVATE "${source}")
            set_source_files_properties("${source}" TARGET_DIRECTORY ${target} PROPERTIES
                COMPILE_OPTIONS "${FEWBIT_KERNEL_FLAGS};${flags_${name}}")
        endif()
    endforeach()
    list(JOIN built ", " names)
    message(STATUS "fewbit: kernels for ${FEWBIT_ARCHITECTURE}: ${names}")
endfunction()
