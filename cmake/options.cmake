# Defaults for a build of fewbit by itself, and what fewbit's own targets are compiled with. Nothing here touches a
# global flag or another project's target.

if(PROJECT_IS_TOP_LEVEL)
    get_property(fewbit_multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
    if(NOT fewbit_multi_config AND NOT CMAKE_BUILD_TYPE)
        set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
    endif()
    if(FEWBIT_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
        find_program(FEWBIT_CCACHE_PROGRAM ccache)
        mark_as_advanced(FEWBIT_CCACHE_PROGRAM)
        if(FEWBIT_CCACHE_PROGRAM)
            set(CMAKE_CXX_COMPILER_LAUNCHER "${FEWBIT_CCACHE_PROGRAM}")
        endif()
    endif()
endif()

if(FEWBIT_CUDA)
    include(CheckLanguage)
    check_language(CUDA)
    if(NOT CMAKE_CUDA_COMPILER)
        message(FATAL_ERROR "FEWBIT_CUDA is ON, but no CUDA compiler was found. Put nvcc on the PATH, name it with "
                            "-DCMAKE_CUDA_COMPILER=/path/to/nvcc, or configure with -DFEWBIT_CUDA=OFF.")
    endif()
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
        set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90a-real 90-virtual)
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    message(STATUS "fewbit: CUDA kernels for ${CMAKE_CUDA_ARCHITECTURES}, by ${CMAKE_CUDA_COMPILER}")
endif()

# Builds that ask for CMAKE_UNITY_BUILD (presets, for what no user builds) compile this many files at once.
if(NOT DEFINED CMAKE_UNITY_BUILD_BATCH_SIZE)
    set(CMAKE_UNITY_BUILD_BATCH_SIZE 10)
endif()

# Options of C++ files alone: nvcc has others.
function(fewbit_cxx_options target)
    foreach(option IN LISTS ARGN)
        target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${option}>")
    endforeach()
endfunction()

# Warnings that g++ 12 and clang 14 both know.
function(fewbit_warnings target)
    fewbit_cxx_options(${target} -Wall -Wextra -Wpedantic -Wconversion -Wno-sign-conversion)
    get_target_property(unity ${target} UNITY_BUILD)
    if(NOT unity)  # else every name of a file hides its neighbour's
        fewbit_cxx_options(${target} -Wshadow)
    endif()
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
        # False alarms about std::string + (GCC bug 105651), about bytes inserted into a std::vector, and about the value
        # of a std::variant that holds its other alternative (GCC bug 80635); sanitizers and clang watch over these.
        fewbit_cxx_options(${target} -Wno-restrict -Wno-stringop-overflow -Wno-maybe-uninitialized)
    endif()
    if(FEWBIT_WERROR)
        fewbit_cxx_options(${target} -Werror)
    endif()
endfunction()

# What every target of ours is compiled with. Codes are chosen in the library and compared in tests, so nowhere may the
# compiler fuse a multiplication and an addition that another compiler keeps apart; kernels that want an FMA write one.
# errno and floating-point traps, which nothing here reads, would keep sqrt and comparisons out of vector loops; giving
# them up changes no value.
function(fewbit_own_code target)
    set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
    fewbit_cxx_options(${target} -ffp-contract=off -fno-math-errno -fno-trapping-math)
    fewbit_warnings(${target})
endfunction()
