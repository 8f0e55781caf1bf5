# Everything fewbit uses of others, behind one name each (fewbit_fmt, fewbit_cli11, ...), so that the rest of the build
# need not know how it was found. Nothing is downloaded. The library itself links none
# of these: it reads Eigen and JSON headers in .cpp files, which leaves no trace in what is installed.
#
# Packages of the build machine are found by their package files. A cross build cannot use those (they name libraries
# of another CPU and refuse another word size), so it takes the headers alone.

# name | package | target | a header | Debian package
set(FEWBIT_DEPENDENCY_ROWS
    "fmt|fmt|fmt::fmt|fmt/core.h|libfmt-dev"
    "cli11|CLI11|CLI11::CLI11|CLI/CLI.hpp|libcli11-dev"
    "json|nlohmann_json|nlohmann_json::nlohmann_json|nlohmann/json.hpp|nlohmann-json3-dev"
    "eigen|Eigen3|Eigen3::Eigen|Eigen/Core|libeigen3-dev"
    "xsimd|xsimd|xsimd|xsimd/xsimd.hpp|libxsimd-dev"
    "catch2|Catch2|Catch2::Catch2|catch2/catch.hpp|catch2"
    "benchmark|benchmark|benchmark::benchmark|benchmark/benchmark.h|libbenchmark-dev")

function(fewbit_need wanted user)
    if(TARGET fewbit_${wanted})
        return()
    endif()
    foreach(row IN LISTS FEWBIT_DEPENDENCY_ROWS)
        string(REPLACE "|" ";" cells "${row}")
        list(GET cells 0 name)
        if(name STREQUAL wanted)
            list(GET cells 1 package)
            list(GET cells 2 target)
            list(GET cells 3 header)
            list(GET cells 4 debian)
            break()
        endif()
    endforeach()
    set(advice "install it (Debian and Ubuntu: ${debian}) or switch that part off (FEWBIT_BUILD_CLI, _TESTS, _BENCH)")

    add_library(fewbit_${wanted} INTERFACE)
    if(CMAKE_CROSSCOMPILING)
        _fewbit_foreign_headers(${wanted} "${header}" "${advice}" "${user}")
        return()
    endif()
    find_package(${package} QUIET)
    if(NOT TARGET ${target})
        message(FATAL_ERROR "fewbit: ${user} needs ${package}, which was not found: ${advice}.")
    endif()
    target_link_libraries(fewbit_${wanted} INTERFACE ${target})
endfunction()

# The directory of a header on the build machine holds headers of that machine's C library too, which a cross compiler
# must not see. So the compiler gets a folder with a link to the one package.
function(_fewbit_foreign_headers wanted header advice user)
    find_path(FEWBIT_FOREIGN_${wanted} "${header}" PATHS /usr/include /usr/local/include
              PATH_SUFFIXES eigen3 NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
    mark_as_advanced(FEWBIT_FOREIGN_${wanted})
    if(FEWBIT_FOREIGN_${wanted})
        string(REGEX MATCH "^[^/]+" folder "${header}")
        set(farm "${PROJECT_BINARY_DIR}/foreign-headers/${wanted}")
        file(MAKE_DIRECTORY "${farm}")
        file(CREATE_LINK "${FEWBIT_FOREIGN_${wanted}}/${folder}" "${farm}/${folder}" SYMBOLIC)
        target_include_directories(fewbit_${wanted} SYSTEM INTERFACE "${farm}")
        if(wanted STREQUAL "fmt")
            target_compile_definitions(fewbit_${wanted} INTERFACE FMT_HEADER_ONLY=1)
        endif()
    elseif(wanted STREQUAL "catch2")
        message(FATAL_ERROR "fewbit: a cross build of the tests needs Catch2 v2 (headers alone: catch2/catch.hpp); v3 is a "
                            "library of the build machine's CPU. Without it: -DFEWBIT_BUILD_TESTS=OFF.")
    else()
        message(FATAL_ERROR "fewbit: ${user} needs the headers of ${wanted} (${header}), which were not found: ${advice}.")
    endif()
endfunction()

# Gives the library the header-only packages that its sources include. Only the include path is taken: what is
# installed must not name them.
function(fewbit_private_headers target)
    foreach(row "eigen|Eigen/" "json|nlohmann/" "xsimd|xsimd/")
        string(REPLACE "|" ";" cells "${row}")
        list(GET cells 0 name)
        list(GET cells 1 folder)
        foreach(source IN LISTS ARGN)
            file(STRINGS "${source}" used LIMIT_COUNT 1 REGEX "^[ \t]*#[ \t]*include[ \t]*<${folder}")
            if(used)
                fewbit_need(${name} "the library (${source})")
                target_include_directories(${target} SYSTEM PRIVATE
                    $<TARGET_PROPERTY:fewbit_${name},INTERFACE_INCLUDE_DIRECTORIES>)
                break()
            endif()
        endforeach()
    endforeach()
endfunction()
