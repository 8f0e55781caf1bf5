# The installed package: headers, library, program, a CMake package (fewbit::fewbit, fewbit::headers) and fewbit.pc.
include(CMakePackageConfigHelpers)

install(TARGETS fewbit fewbit_headers EXPORT fewbitTargets
    FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
    FILE_SET other_headers DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
if(TARGET fewbit_cli)
    install(TARGETS fewbit_cli)
endif()
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")

set(fewbit_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/fewbit")
install(EXPORT fewbitTargets NAMESPACE fewbit:: DESTINATION "${fewbit_package_dir}")
configure_package_config_file(cmake/templates/fewbitConfig.cmake.in "${PROJECT_BINARY_DIR}/fewbitConfig.cmake"
    INSTALL_DESTINATION "${fewbit_package_dir}")
# Before 1.0 a minor version may break source compatibility.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/fewbitConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/fewbitConfig.cmake" "${PROJECT_BINARY_DIR}/fewbitConfigVersion.cmake"
    DESTINATION "${fewbit_package_dir}")

# fewbit.pc finds its prefix from its own place, so that the package may be moved; only directories that were given as
# absolute paths are written as such.
set(fewbit_pc_dir "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
if(IS_ABSOLUTE "${fewbit_pc_dir}")
    set(fewbit_pc_prefix "${CMAKE_INSTALL_PREFIX}")
else()
    file(RELATIVE_PATH fewbit_pc_up "/${fewbit_pc_dir}" "/")
    string(REGEX REPLACE "/$" "" fewbit_pc_up "${fewbit_pc_up}")
    set(fewbit_pc_prefix "\${pcfiledir}/${fewbit_pc_up}")
endif()
foreach(kind LIBDIR INCLUDEDIR)
    set(fewbit_pc_${kind} "${CMAKE_INSTALL_${kind}}")
    if(NOT IS_ABSOLUTE "${fewbit_pc_${kind}}")
        set(fewbit_pc_${kind} "\${prefix}/${fewbit_pc_${kind}}")
    endif()
endforeach()
set(fewbit_pc_libs "${CMAKE_THREAD_LIBS_INIT}")
set(fewbit_pc_cflags "")
if(fewbit_type STREQUAL "SHARED_LIBRARY")
    set(fewbit_pc_cflags " -DFEWBIT_SHARED")
else()
    # A static library written in C++ needs the C++ runtime when a C program links it.
    string(APPEND fewbit_pc_libs " -lstdc++ -lm")
endif()
string(STRIP "${fewbit_pc_libs}" fewbit_pc_libs)
configure_file(cmake/templates/fewbit.pc.in "${PROJECT_BINARY_DIR}/fewbit.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/fewbit.pc" DESTINATION "${fewbit_pc_dir}")
