cmake_policy(VERSION 3.25)
# Installs a build into an empty prefix.
file(REMOVE_RECURSE "${PREFIX}")
execute_process(COMMAND "${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${PREFIX}" COMMAND_ERROR_IS_FATAL ANY)
# What is installed must not name the machine that built it.
file(GLOB_RECURSE package_files "${PREFIX}/*.cmake" "${PREFIX}/*.pc")
foreach(file IN LISTS package_files)
    file(READ "${file}" text)
    string(FIND "${text}" "${BUILD}" position)
    if(NOT position EQUAL -1)
        message(FATAL_ERROR "${file} names the build folder ${BUILD}")
    endif()
endforeach()
