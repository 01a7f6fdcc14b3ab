# What a wheel takes of this build: the libraries, beside the Python that looks for them, and the headers that they were
# compiled with, from which `normexport plugins build` compiles again without a network. Included where scikit-build-core
# builds a wheel (`make wheel`).
set(fetched ${CMAKE_CURRENT_SOURCE_DIR}/../build/headers)
foreach(name highway onnxruntime)
  if(NOT IS_DIRECTORY ${fetched}/${name})
    message(FATAL_ERROR "the headers that a wheel carries are not in ${fetched}; run: "
                        "python plugins/fetch_headers.py build/headers")
  endif()
  list(APPEND NORMEXPORT_HEADERS ${fetched}/${name})
  install(DIRECTORY ${fetched}/${name} DESTINATION normexport_plugin_sources/carried COMPONENT wheel)
endforeach()

function(install_into_wheel)
  install(TARGETS ${ARGN} LIBRARY DESTINATION normexport/plugins/lib COMPONENT wheel)
endfunction()
