# Target DNNL::dnnl, oneDNN 3.2 or newer, and BLACKWELL_COMPAT_RPATH, where _C finds it at run time.
#   1. find_package(dnnl): a system-wide or hand-made oneDNN (-Ddnnl_DIR=...)
#   2. the wheel onednn-cpu-gomp: library 3.2; headers of the wheel onednn-devel, else those that torch ships (2.6 and
#      newer). Only what 3.2 exports is used, and the link fails on anything else
set(BLACKWELL_COMPAT_RPATH "$ORIGIN;$ORIGIN/../../..")
set(BLACKWELL_COMPAT_HAS_ONEDNN OFF)
if(NOT BLACKWELL_COMPAT_ONEDNN)
  message(STATUS "oneDNN: switched off; CPU kernels are ATen's")
  return()
endif()

find_package(dnnl 3.2 CONFIG QUIET)
if(dnnl_FOUND)
  set(BLACKWELL_COMPAT_HAS_ONEDNN ON)
  get_target_property(dnnl_location DNNL::dnnl LOCATION)
  cmake_path(GET dnnl_location PARENT_PATH dnnl_folder)
  list(APPEND BLACKWELL_COMPAT_RPATH "${dnnl_folder}")
  message(STATUS "oneDNN ${dnnl_VERSION} from ${dnnl_DIR}")
  return()
endif()

execute_process(
  COMMAND "${Python_EXECUTABLE}" "${CMAKE_CURRENT_LIST_DIR}/find_dnnl.py" "${TORCH_ROOT}/include"
  OUTPUT_VARIABLE dnnl_wheels OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
list(GET dnnl_wheels 0 dnnl_library)
list(GET dnnl_wheels 1 dnnl_include)
if(NOT dnnl_library OR NOT dnnl_include)
  message(WARNING
    "oneDNN was not found; CPU kernels will be ATen's (slower). Either of these brings it:\n"
    "  a system-wide oneDNN 3.2 or newer that find_package(dnnl) finds (-Ddnnl_DIR=<prefix>/lib/cmake/dnnl), or\n"
    "  pip install onednn-cpu-gomp, and for torch older than 2.6: pip install --no-deps onednn-devel==2024.2.0\n"
    "Found: library '${dnnl_library}', headers '${dnnl_include}'")
  return()
endif()

set(BLACKWELL_COMPAT_HAS_ONEDNN ON)
add_library(DNNL::dnnl SHARED IMPORTED)
# The wheel asks for libgomp.so.1. Where torch brings its own copy under another name, ship a oneDNN that asks for that one
if(TORCH_GOMP_RENAMED)
  set(dnnl_copy "${CMAKE_CURRENT_BINARY_DIR}/libdnnl-torch-openmp.so.3")
  file(COPY_FILE "${dnnl_library}" "${dnnl_copy}" ONLY_IF_DIFFERENT)
  execute_process(COMMAND "${PATCHELF}" --replace-needed libgomp.so.1 "${TORCH_GOMP_RENAMED}"
    --set-soname libdnnl-torch-openmp.so.3 "${dnnl_copy}" COMMAND_ERROR_IS_FATAL ANY)
  set(dnnl_library "${dnnl_copy}")
  install(FILES "${dnnl_copy}" DESTINATION blackwell_compat)
endif()
set_target_properties(DNNL::dnnl PROPERTIES IMPORTED_LOCATION "${dnnl_library}" INTERFACE_INCLUDE_DIRECTORIES "${dnnl_include}")
message(STATUS "oneDNN 3.2 from ${dnnl_library}, headers in ${dnnl_include}")
