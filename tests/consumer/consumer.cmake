# Other projects that use fewbit, as tests: an installed static package found by CMake and by pkg-config, and the source
# tree built in as a shared library (which shows that everything public is exported), for debugging and in batches of
# files (with assertions, and in a tenth of the time).
set(consumer_dir "${CMAKE_CURRENT_SOURCE_DIR}/consumer")
set(consumer_build "${PROJECT_BINARY_DIR}/consumer")
set(consumer_prefix "${consumer_build}/prefix")
set(consumer_options
    "-DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}" "-DCMAKE_BUILD_TYPE=${CMAKE_BUILD_TYPE}"
    "-DCMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER}")

add_test(NAME consumer_install
    COMMAND ${CMAKE_COMMAND} "-DBUILD=${PROJECT_BINARY_DIR}" "-DPREFIX=${consumer_prefix}"
            -P "${consumer_dir}/install.cmake")
set_tests_properties(consumer_install PROPERTIES FIXTURES_SETUP consumer_prefix)

function(fewbit_consumer_test name)
    add_test(NAME consumer_${name}
        COMMAND ${CMAKE_COMMAND} "-DSOURCE=${consumer_dir}/${name}" "-DBUILD=${consumer_build}/${name}"
                "-DGENERATOR=${CMAKE_GENERATOR}" "-DOPTIONS=${consumer_options};${ARGN}" -P "${consumer_dir}/run.cmake")
endfunction()
fewbit_consumer_test(find_package "-DCMAKE_PREFIX_PATH=${consumer_prefix}")
fewbit_consumer_test(add_subdirectory "-DFEWBIT_SOURCE=${PROJECT_SOURCE_DIR}" -DBUILD_SHARED_LIBS=ON
                     -DCMAKE_BUILD_TYPE=Debug -DCMAKE_UNITY_BUILD=ON)

find_program(FEWBIT_PKG_CONFIG pkg-config)
mark_as_advanced(FEWBIT_PKG_CONFIG)
if(FEWBIT_PKG_CONFIG)
    add_test(NAME consumer_pkg_config
        COMMAND ${CMAKE_COMMAND} "-DSOURCE=${consumer_dir}/main.cpp" "-DBUILD=${consumer_build}/pkg_config"
                "-DPREFIX=${consumer_prefix}" "-DLIBDIR=${CMAKE_INSTALL_LIBDIR}" "-DPKG_CONFIG=${FEWBIT_PKG_CONFIG}"
                "-DCXX=${CMAKE_CXX_COMPILER}" -P "${consumer_dir}/pkg_config.cmake")
    set_tests_properties(consumer_pkg_config PROPERTIES FIXTURES_REQUIRED consumer_prefix)
else()
    message(STATUS "fewbit: no pkg-config, so fewbit.pc is not tested")
endif()
set_tests_properties(consumer_find_package PROPERTIES FIXTURES_REQUIRED consumer_prefix)

get_property(consumer_tests DIRECTORY PROPERTY TESTS)
list(FILTER consumer_tests INCLUDE REGEX "^consumer_")
set_tests_properties(${consumer_tests} PROPERTIES LABELS consumer TIMEOUT 900 PROCESSORS 2)
